-- Who is in the scope of each of these jobs, in order; NULL: nobody. In the caller's own transaction they
-- are held: none of them begins before what the caller wrote is there for it to see.
SELECT CASE WHEN %(held)s THEN (
           SELECT j.id FROM synk.job AS j WHERE j.unique_key = u.key FOR SHARE
       ) ELSE (
           SELECT j.id FROM synk.job AS j WHERE j.unique_key = u.key
       ) END
FROM ROWS FROM (
    unnest(%(each_unique_scope)s::text[]), jsonb_array_elements(%(chosen)s::jsonb),
    unnest(%(each_scheduled_at)s::timestamptz[])
) WITH ORDINALITY AS g (unique_scope, chosen, scheduled_at, n)
-- include: unique_keys
ORDER BY g.n
