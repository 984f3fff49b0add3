-- As insert_many, for jobs of which some have an idempotency key: one whose key is taken is not
-- inserted, and the id of the job that has it is returned in its place. A statement of its own, since
-- a row that might conflict costs the server more to write.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on,
                      idempotency_key)
-- include: given_values
       , g.idempotency_key
FROM ROWS FROM (
-- include: given_rows
    , unnest(%(each_idempotency_key)s::text[])
) WITH ORDINALITY
    AS g (args, queue, kind, max_attempts, state, scheduled_at, priority, name, depends_on,
          idempotency_key, n)
ORDER BY g.n
ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL
DO UPDATE SET idempotency_key = excluded.idempotency_key
RETURNING id
