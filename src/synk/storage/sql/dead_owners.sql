-- Owners of running jobs that will never act again: dead, stopped, or not on record (a row that
-- names an owner was written after that had registered, so a missing one is gone). What runs without
-- an owner runs elsewhere.
SELECT DISTINCT j.owner
FROM synk.job AS j
LEFT JOIN synk.client AS c ON c.id = j.owner
WHERE j.state = 'running' AND j.owner IS NOT NULL
  AND (c.id IS NULL OR c.dead_at IS NOT NULL OR c.stopped_at IS NOT NULL)
