-- As insert_many, for jobs of which some have an idempotency key: one whose key is taken is not
-- inserted, and the id of the job that has it is returned in its place. A statement of its own, since
-- a row that might conflict costs the server more to write.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on,
                      idempotency_key)
SELECT coalesce(g.queue, %(queue)s), coalesce(g.kind, %(kind)s), g.args,
       coalesce(g.max_attempts, %(max_attempts)s::integer),
       coalesce(g.state, %(state)s::synk.job_state),
       coalesce(g.scheduled_at, %(scheduled_at)s::timestamptz, now()),
       coalesce(g.priority, %(priority)s::smallint), coalesce(g.name, %(name)s),
       coalesce(g.depends_on::bigint[], %(depends_on)s::bigint[]), g.idempotency_key
FROM ROWS FROM (
    jsonb_array_elements(%(args)s::jsonb), unnest(%(each_queue)s::text[]), unnest(%(each_kind)s::text[]),
    unnest(%(each_max_attempts)s::integer[]), unnest(%(each_state)s::synk.job_state[]),
    unnest(%(each_scheduled_at)s::timestamptz[]), unnest(%(each_priority)s::smallint[]),
    unnest(%(each_name)s::text[]), unnest(%(each_depends_on)s::text[]),
    unnest(%(each_idempotency_key)s::text[])
) WITH ORDINALITY
    AS g (args, queue, kind, max_attempts, state, scheduled_at, priority, name, depends_on,
          idempotency_key, n)
ORDER BY g.n
ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL
DO UPDATE SET idempotency_key = excluded.idempotency_key
RETURNING id
