-- Supervisors that may still own jobs, and the revision that each has in force.
SELECT c.id, c.host, c.pid, c.queues, c.revision, c.beat,
       extract(epoch FROM c.ttl)::float8 AS ttl_s,
       extract(epoch FROM c.lease_until - now())::float8 AS left_s
FROM synk.client AS c
WHERE c.stopped_at IS NULL AND c.dead_at IS NULL
ORDER BY c.started_at, c.id
