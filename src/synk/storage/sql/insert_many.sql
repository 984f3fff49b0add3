-- Inserts jobs in the order given and returns their ids in that order.
--
-- A column that is the same in all of them comes once, and its array is empty, which unnest() fills
-- up with NULL: most columns of most inserts. The arguments come as one JSON array, which is parsed
-- as a whole. depends_on comes as one array literal a job: an array of arrays could not be ragged.
-- What comes once is cast where it comes, once, and not in each row.
-- Jobs with an idempotency key go by insert_many_once.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on)
SELECT coalesce(g.queue, %(queue)s), coalesce(g.kind, %(kind)s), g.args,
       coalesce(g.max_attempts, %(max_attempts)s::integer),
       coalesce(g.state, %(state)s::synk.job_state),
       coalesce(g.scheduled_at, %(scheduled_at)s::timestamptz, now()),
       coalesce(g.priority, %(priority)s::smallint), coalesce(g.name, %(name)s),
       coalesce(g.depends_on::bigint[], %(depends_on)s::bigint[])
FROM ROWS FROM (
    jsonb_array_elements(%(args)s::jsonb), unnest(%(each_queue)s::text[]), unnest(%(each_kind)s::text[]),
    unnest(%(each_max_attempts)s::integer[]), unnest(%(each_state)s::synk.job_state[]),
    unnest(%(each_scheduled_at)s::timestamptz[]), unnest(%(each_priority)s::smallint[]),
    unnest(%(each_name)s::text[]), unnest(%(each_depends_on)s::text[])
) WITH ORDINALITY
    AS g (args, queue, kind, max_attempts, state, scheduled_at, priority, name, depends_on, n)
ORDER BY g.n
RETURNING id
