-- Of a job in a list: each column has the name of its field in ListedJob. None of them is wide. Times
-- are those that Python has, in any time zone: one bad row must not stand in the way of the others.
SELECT j.id, j.name, j.kind, j.queue, j.state::text AS state, j.priority, j.attempt, j.max_attempts,
       j.uncounted,
       least(greatest(j.created_at, '0001-01-02 00:00:00+00'), '9999-12-30 00:00:00+00') AS created_at,
       least(greatest(j.scheduled_at, '0001-01-02 00:00:00+00'), '9999-12-30 00:00:00+00') AS scheduled_at,
       CASE WHEN j.attempted_at IS NOT NULL
            THEN least(greatest(j.attempted_at, '0001-01-02 00:00:00+00'), '9999-12-30 00:00:00+00')
       END AS attempted_at,
       CASE WHEN j.finalized_at IS NOT NULL
            THEN least(greatest(j.finalized_at, '0001-01-02 00:00:00+00'), '9999-12-30 00:00:00+00')
       END AS finalized_at,
       j.cancel_reason::text AS cancel_reason,
       CASE WHEN j.cancel_requested_at IS NOT NULL
            THEN least(greatest(j.cancel_requested_at, '0001-01-02 00:00:00+00'), '9999-12-30 00:00:00+00')
       END AS cancel_requested_at,
       j.duration_us AS duration, j.cpu_us AS cpu_time, j.system_us AS system_time, j.peak_rss_bytes,
       j.pid, c.host, j.crashes, j.lost, j.idempotency_key,
       coalesce(j.tags, '{}') AS tags,
       CASE WHEN jsonb_typeof(j.meta -> 'snoozes') = 'number'
            THEN greatest(0, least((j.meta -> 'snoozes')::numeric, 2147483647))::integer
            ELSE 0 END AS snoozes
