-- Makes settings, removes those that are given no value, and announces it. What was set for a supervisor
-- that has ended is of nobody any more.
--
-- Triggers count a revision for each of the parts, whether that has changed anything or not.
WITH change AS MATERIALIZED (
    SELECT c.scope, c.name, c.value::jsonb AS value
    FROM unnest(%(scopes)s::text[], %(names)s::text[], %(values)s::text[]) AS c (scope, name, value)
), removed AS (
    DELETE FROM synk.setting AS s
    WHERE EXISTS (
        SELECT FROM change AS c WHERE c.scope = s.scope AND c.name = s.name AND c.value IS NULL)
       OR (s.scope LIKE 'supervisor:%%'
           AND NOT EXISTS (
               SELECT FROM change AS c WHERE c.scope = s.scope AND c.name = s.name)
           AND NOT EXISTS (
               SELECT FROM synk.client AS c
               WHERE c.id::text = split_part(s.scope, ':', 2)
                 AND c.stopped_at IS NULL AND c.dead_at IS NULL))
), made AS (
    INSERT INTO synk.setting AS s (scope, name, value)
    SELECT c.scope, c.name, c.value FROM change AS c WHERE c.value IS NOT NULL
    ON CONFLICT (scope, name) DO UPDATE SET value = excluded.value, changed_at = now()
    WHERE s.value <> excluded.value
)
SELECT pg_notify('synk.setting', '')
