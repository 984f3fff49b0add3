-- Of a job as it is read. Times are those that Python has, in any time zone: one bad row must not
-- stand in the way of a listing.
SELECT j.id, j.name, j.kind, j.queue, j.state::text, j.priority, j.args::text, j.attempt, j.max_attempts,
       j.uncounted,
       least(greatest(j.created_at, '0001-01-02 00:00:00+00'), '9999-12-30 00:00:00+00'),
       least(greatest(j.scheduled_at, '0001-01-02 00:00:00+00'), '9999-12-30 00:00:00+00'),
       CASE WHEN j.attempted_at IS NOT NULL
            THEN least(greatest(j.attempted_at, '0001-01-02 00:00:00+00'), '9999-12-30 00:00:00+00') END,
       CASE WHEN j.finalized_at IS NOT NULL
            THEN least(greatest(j.finalized_at, '0001-01-02 00:00:00+00'), '9999-12-30 00:00:00+00') END,
       j.attempted_by, j.depends_on,
       CASE WHEN j.unmet > 0 THEN ARRAY(
           SELECT d.id FROM unnest(j.depends_on) WITH ORDINALITY AS d (id, n)
           WHERE EXISTS (SELECT FROM synk.tie AS t WHERE t.dependency = d.id AND t.dependent = j.id)
           ORDER BY d.n) ELSE '{}' END,
       to_jsonb(j.errors)::text, j.cancel_reason::text,
       CASE WHEN j.cancel_requested_at IS NOT NULL
            THEN least(greatest(j.cancel_requested_at, '0001-01-02 00:00:00+00'), '9999-12-30 00:00:00+00') END,
       j.result::text, j.duration_us, j.cpu_us, j.system_us, j.peak_rss_bytes,
       j.pid, c.host, j.crashes, j.output, j.progress::text, j.checkpoint::text,
       j.lost, j.idempotency_key
