-- All periodic jobs.
SELECT
-- include: schedule_columns
FROM synk.periodic AS p
ORDER BY p.name
