-- Puts the arguments, the time and the priority of each of these jobs into the one that waits in its scope,
-- and returns the ids of those, in order; NULL: the scope is free by now.
SELECT synk.unique_replace(
    v.kind, v.queue, v.args, u.scope, v.scheduled_at, v.priority, v.limit_key)
FROM ROWS FROM (
-- include: given_rows
-- include: extra_rows
    , unnest(%(each_unique_scope)s::text[]), jsonb_array_elements(%(chosen)s::jsonb)
) WITH ORDINALITY
    AS g (args, queue, kind, max_attempts, state, scheduled_at, priority, name, depends_on,
-- include: extra_names
          , unique_scope, chosen, n)
-- include: unique_keys
CROSS JOIN LATERAL (
-- include: given_values
-- include: extra_values
) AS v (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on,
-- include: extra_columns
       )
ORDER BY g.n
