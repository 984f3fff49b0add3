-- As insert_many_once, for jobs of which some have what a plain job has not: its columns are NULL there.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on,
                      idempotency_key, tags, meta)
-- include: given_values
       , g.idempotency_key, g.tags::text[], g.meta
FROM ROWS FROM (
-- include: given_rows
    , unnest(%(each_idempotency_key)s::text[]), unnest(%(each_tags)s::text[]),
    unnest(%(each_meta)s::jsonb[])
) WITH ORDINALITY
    AS g (args, queue, kind, max_attempts, state, scheduled_at, priority, name, depends_on,
          idempotency_key, tags, meta, n)
ORDER BY g.n
ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL
DO UPDATE SET idempotency_key = excluded.idempotency_key
RETURNING id
