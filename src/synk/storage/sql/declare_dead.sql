-- Declares supervisors dead whose lease is over and that have not renewed it since they were looked
-- at. Each guard is on the locked row itself.
UPDATE synk.client AS c
SET dead_at = now()
FROM unnest(%(ids)s::uuid[], %(beats)s::bigint[]) AS suspect (id, beat)
WHERE c.id = suspect.id AND c.beat = suspect.beat AND c.lease_until < now()
  AND c.stopped_at IS NULL AND c.dead_at IS NULL
RETURNING c.id
