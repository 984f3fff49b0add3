-- What synk.unique_key chooses of a job, the client has chosen of it; the period is added here.
CROSS JOIN LATERAL (
    SELECT s.scope, sha256(convert_to(
        CASE WHEN s.scope ? 'period' THEN s.scope - '{by,until}'::text[] || g.chosen
             ELSE g.chosen END::text, 'UTF8')) AS key
    FROM (SELECT synk.unique_scope(
        coalesce(g.unique_scope::jsonb, %(unique_scope)s::jsonb),
        coalesce(g.scheduled_at, %(scheduled_at)s::timestamptz, now())) AS scope) AS s
) AS u
