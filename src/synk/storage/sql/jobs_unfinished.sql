-- Jobs in a state that is not final, the newest first.
-- include: job_columns
, false AS is_behind
FROM (
    SELECT f.id
    FROM synk.job AS f
    WHERE f.state = %(state)s::synk.job_state
      AND f.created_at >= coalesce(%(since)s::timestamptz, now() - %(age)s::interval, '-infinity') AND
-- include: job_filters
    ORDER BY f.id DESC
    LIMIT %(limit)s
) AS found
JOIN synk.job AS j ON j.id = found.id
LEFT JOIN synk.client AS c ON c.id = coalesce(j.owner, j.acked_by)
ORDER BY j.id DESC
