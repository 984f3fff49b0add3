-- As insert_full, for jobs that are unique: one whose scope is taken is not inserted. Waits for the end of
-- a transaction that has put a job into one of these scopes, or takes one out.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on,
-- include: extra_columns
                      , unique_scope, unique_key)
-- include: given_values
-- include: extra_values
       , u.scope, u.key
FROM ROWS FROM (
-- include: given_rows
-- include: extra_rows
    , unnest(%(each_unique_scope)s::text[]), jsonb_array_elements(%(chosen)s::jsonb)
) WITH ORDINALITY
    AS g (args, queue, kind, max_attempts, state, scheduled_at, priority, name, depends_on,
-- include: extra_names
          , unique_scope, chosen, n)
-- include: unique_keys
ORDER BY g.n
ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
RETURNING id
