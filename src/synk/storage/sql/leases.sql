-- The leases of all supervisors that may still renew them.
SELECT c.id AS owner, c.beat, c.lease_until < now() AS is_over
FROM synk.client AS c
WHERE c.stopped_at IS NULL AND c.dead_at IS NULL
