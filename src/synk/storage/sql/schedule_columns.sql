-- Of a periodic job: each column has the name of its field in Schedule.
       p.name, p.cron, p.every, p.tz, p.missed, p.max_late, p.jitter, p.overlap,
       p.kind, p.args::text AS args, p.queue, p.priority, p.max_attempts,
       coalesce(p.tags, '{}') AS tags, p.meta::text AS meta, p.start_within, p.keep,
       p.limit_name, p.limit_path,
       p.version, p.since, p.next_at, p.last_at, p.last_job_id, p.runs, p.skipped, p.paused_at,
       p.declared_by IS NOT NULL
       AND EXISTS (
           SELECT FROM synk.client AS c
           WHERE c.stopped_at IS NULL AND c.dead_at IS NULL AND c.lease_until > now())
       AND NOT EXISTS (
           SELECT FROM synk.client AS c
           WHERE c.id = ANY (p.declared_by)
             AND c.stopped_at IS NULL AND c.dead_at IS NULL AND c.lease_until > now()) AS undeclared
