-- Jobs that ended in a state, those that ended last, listed with the newest first. By job_final, so
-- that only what ended since then is looked at.
-- include: job_columns
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
LEFT JOIN synk.client AS c ON c.id = coalesce(j.owner, j.acked_by)
ORDER BY j.id DESC
