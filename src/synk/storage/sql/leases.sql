-- The leases of all supervisors that may still renew them.
SELECT c.id, c.beat, c.lease_until < now()
FROM synk.client AS c
WHERE c.stopped_at IS NULL AND c.dead_at IS NULL
