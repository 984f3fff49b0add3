-- Jobs by state, queue, kind and time, the newest first; a filter that is NULL lets everything through.
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
FROM synk.job AS j
-- The times that Python has, in any time zone: one bad row must not stand in the way of a listing.
CROSS JOIN (
    SELECT '0001-01-02 00:00:00+00'::timestamptz AS first, '9999-12-30 00:00:00+00'::timestamptz AS last
) AS python
LEFT JOIN synk.client AS c ON c.id = coalesce(j.owner, j.acked_by)
WHERE (%(state)s::synk.job_state IS NULL OR j.state = %(state)s::synk.job_state)
  AND (%(queue)s::text IS NULL OR j.queue = %(queue)s::text)
  AND (%(kind)s::text IS NULL OR j.kind = %(kind)s::text)
  AND (%(since)s::timestamptz IS NULL
       OR coalesce(j.finalized_at, j.created_at) >= %(since)s::timestamptz)
  AND (%(age)s::interval IS NULL
       OR coalesce(j.finalized_at, j.created_at) >= now() - %(age)s::interval)
ORDER BY j.id DESC
LIMIT %(limit)s
