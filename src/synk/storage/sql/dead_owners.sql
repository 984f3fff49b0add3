-- Owners of running jobs, or of permits, that will never act again: dead, stopped, or not on record (a
-- row that names an owner was written after that had registered, so a missing one is gone). What runs
-- without an owner runs elsewhere.
SELECT o.owner
FROM (
    SELECT j.owner FROM synk.job AS j WHERE j.state = 'running' AND j.owner IS NOT NULL
    UNION
    SELECT p.owner FROM synk.permit AS p
) AS o
LEFT JOIN synk.client AS c ON c.id = o.owner
WHERE c.id IS NULL OR c.dead_at IS NOT NULL OR c.stopped_at IS NOT NULL
