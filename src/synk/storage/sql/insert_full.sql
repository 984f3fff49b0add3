-- As insert_many_once, for jobs of which some have what a plain job has not: its columns are NULL there.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on,
                      idempotency_key, tags, meta, start_before, keep, limit_key)
-- include: given_values
       , g.idempotency_key, g.tags::text[], g.meta, coalesce(g.start_before, now() + g.start_within), g.keep,
       -- Without a path, #>> would take all of the arguments.
       CASE WHEN g.limit_name IS NOT NULL THEN synk.limit_key(
           g.limit_name, CASE WHEN g.limit_path <> '{}' THEN g.args #>> g.limit_path::text[] END) END
FROM ROWS FROM (
-- include: given_rows
    , unnest(%(each_idempotency_key)s::text[]), unnest(%(each_tags)s::text[]),
    unnest(%(each_meta)s::jsonb[]), unnest(%(each_start_before)s::timestamptz[]),
    unnest(%(each_start_within)s::interval[]), unnest(%(each_keep)s::interval[]),
    unnest(%(each_limit)s::text[]), unnest(%(each_limit_path)s::text[])
) WITH ORDINALITY
    AS g (args, queue, kind, max_attempts, state, scheduled_at, priority, name, depends_on,
          idempotency_key, tags, meta, start_before, start_within, keep, limit_name,
          limit_path, n)
ORDER BY g.n
ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL
DO UPDATE SET idempotency_key = excluded.idempotency_key
RETURNING id
