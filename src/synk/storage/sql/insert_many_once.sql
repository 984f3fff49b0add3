-- As insert_many, for jobs of which some have an idempotency key: one whose key is taken is not
-- inserted, and the id of the job that has it is returned in its place. A statement of its own, since
-- a row that might conflict costs the server more to write.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on,
                      idempotency_key)
SELECT g.queue, g.kind, g.args::jsonb, g.max_attempts, g.state::synk.job_state,
       coalesce(g.scheduled_at, now()), g.priority, g.name, g.depends_on::bigint[], g.idempotency_key
FROM unnest(
    %(queue)s::text[], %(kind)s::text[], %(args)s::text[], %(max_attempts)s::integer[],
    %(state)s::text[], %(scheduled_at)s::timestamptz[], %(priority)s::smallint[],
    %(name)s::text[], %(depends_on)s::text[], %(idempotency_key)s::text[]
) WITH ORDINALITY
    AS g (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on,
          idempotency_key, n)
ORDER BY g.n
ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL
DO UPDATE SET idempotency_key = excluded.idempotency_key
RETURNING id
