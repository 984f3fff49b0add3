-- Inserts jobs in the order given and returns their ids in that order.
--
-- depends_on comes as one array literal a job: an array of arrays could not be ragged. Jobs with
-- an idempotency key go by insert_many_once.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on)
SELECT g.queue, g.kind, g.args::jsonb, g.max_attempts, g.state::synk.job_state,
       coalesce(g.scheduled_at, now()), g.priority, g.name, g.depends_on::bigint[]
FROM unnest(
    %(queue)s::text[], %(kind)s::text[], %(args)s::text[], %(max_attempts)s::integer[],
    %(state)s::text[], %(scheduled_at)s::timestamptz[], %(priority)s::smallint[],
    %(name)s::text[], %(depends_on)s::text[]
) WITH ORDINALITY
    AS g (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on, n)
ORDER BY g.n
RETURNING id
