-- Supervisors that were seen in the last days, the ones that run first.
SELECT c.id, c.host, c.pid, c.version, c.processes, c.queues, c.started_at, c.seen_at, c.stopped_at,
       c.slots::text AS slots, c.errors::text AS errors,
       extract(epoch FROM now() - c.seen_at)::float8 AS unseen,
       c.kinds
FROM synk.client AS c
WHERE c.seen_at > now() - %(within)s::interval
ORDER BY c.stopped_at IS NOT NULL, c.started_at
