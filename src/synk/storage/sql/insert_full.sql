-- As insert_many_once, for jobs of which some have what a plain job has not: its columns are NULL there.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on,
-- include: extra_columns
                      , idempotency_key)
-- include: given_values
-- include: extra_values
       , g.idempotency_key
FROM ROWS FROM (
-- include: given_rows
-- include: extra_rows
    , unnest(%(each_idempotency_key)s::text[])
) WITH ORDINALITY
    AS g (args, queue, kind, max_attempts, state, scheduled_at, priority, name, depends_on,
-- include: extra_names
          , idempotency_key, n)
ORDER BY g.n
ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL
DO UPDATE SET idempotency_key = excluded.idempotency_key
RETURNING id
