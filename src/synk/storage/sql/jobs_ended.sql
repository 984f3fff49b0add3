-- Jobs that ended in a state, those that ended last, listed with the newest first. By job_final, so
-- that only what ended since then is looked at.
SELECT j.id, j.name, j.kind, j.queue, j.state::text, j.priority, j.args::text, j.attempt, j.max_attempts,
       j.uncounted,
       least(greatest(j.created_at, python.first), python.last),
       least(greatest(j.scheduled_at, python.first), python.last),
       CASE WHEN j.attempted_at IS NOT NULL
            THEN least(greatest(j.attempted_at, python.first), python.last) END,
       CASE WHEN j.finalized_at IS NOT NULL
            THEN least(greatest(j.finalized_at, python.first), python.last) END,
       j.attempted_by, j.depends_on, j.waiting_on, to_jsonb(j.errors)::text, j.cancel_reason::text,
       CASE WHEN j.cancel_requested_at IS NOT NULL
            THEN least(greatest(j.cancel_requested_at, python.first), python.last) END,
       j.result::text, j.duration_us, j.cpu_us, j.system_us, j.peak_rss_bytes,
       j.pid, c.host, j.crashes, j.output, j.progress::text, j.checkpoint::text,
       j.lost, j.idempotency_key
FROM (
    SELECT f.id
    FROM synk.job AS f
    WHERE f.state = %(state)s::synk.job_state
      AND f.finalized_at >= coalesce(%(since)s::timestamptz, now() - %(age)s::interval, '-infinity')
      AND (%(reason)s::synk.cancel_reason IS NULL
           OR f.cancel_reason = %(reason)s::synk.cancel_reason)
      AND (%(queue)s::text IS NULL OR f.queue = %(queue)s::text)
      AND (%(kind)s::text IS NULL OR f.kind = %(kind)s::text)
    ORDER BY f.finalized_at DESC
    LIMIT %(limit)s
) AS found
JOIN synk.job AS j ON j.id = found.id
-- The times that Python has, in any time zone: one bad row must not stand in the way of a listing.
CROSS JOIN (
    SELECT '0001-01-02 00:00:00+00'::timestamptz AS first, '9999-12-30 00:00:00+00'::timestamptz AS last
) AS python
LEFT JOIN synk.client AS c ON c.id = coalesce(j.owner, j.acked_by)
ORDER BY j.id DESC
