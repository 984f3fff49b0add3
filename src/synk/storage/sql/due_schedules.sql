-- Periodic jobs with a tick that is due, or whose next one has yet to be computed; besides the time of
-- this look, and of the first tick that is not due. There is a row for these where there is no other.
WITH look AS MATERIALIZED (
    SELECT clock_timestamp() AS now
)
SELECT l.now,
       (SELECT min(p.next_at) FROM synk.periodic AS p
        WHERE p.paused_at IS NULL AND p.next_at > l.now) AS wake_at,
       due.*
FROM look AS l
LEFT JOIN LATERAL (
    SELECT
-- include: schedule_columns
    FROM synk.periodic AS p
    WHERE p.paused_at IS NULL AND (p.next_at IS NULL OR p.next_at <= l.now)
    ORDER BY p.next_at NULLS FIRST
    LIMIT %(limit)s
) AS due ON true
