-- Renews a lease; no row if it is lost for good. A lease that ran out is renewed too, as long as
-- nobody has declared its owner dead: the lock on the row decides which comes first.
UPDATE synk.client AS c
SET lease_until = now() + c.ttl, beat = c.beat + 1, seen_at = now()
WHERE c.id = %(owner)s AND c.stopped_at IS NULL AND c.dead_at IS NULL
RETURNING (SELECT max(m.version) FROM synk.migration AS m) AS schema_version,
          extract(epoch FROM clock_timestamp())::float8 AS clock_s,
          (SELECT r.number FROM synk.revision AS r) AS revision
