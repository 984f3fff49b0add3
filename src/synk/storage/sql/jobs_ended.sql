-- Jobs that ended in a state, those that ended last, listed with the newest first. By job_final, so that
-- only what ended since then is looked at; and no more than so many, as in jobs.sql.
-- include: listed_columns
, found.is_behind
FROM (
    SELECT f.id, f.n > %(searched)s AS is_behind
    FROM (
        SELECT e.id, e.queue, e.kind, e.cancel_reason, e.finalized_at,
               row_number() OVER (ORDER BY e.finalized_at DESC) AS n
        FROM synk.job AS e
        WHERE e.state = %(state)s::synk.job_state
          AND e.finalized_at >= coalesce(%(since)s::timestamptz, now() - %(age)s::interval, '-infinity')
        ORDER BY e.finalized_at DESC
        LIMIT %(searched)s + 1
    ) AS f
    WHERE f.n > %(searched)s OR (
        %(reason)s::synk.cancel_reason IS NULL OR f.cancel_reason = %(reason)s::synk.cancel_reason) AND
-- include: job_filters
    ORDER BY f.finalized_at DESC
    LIMIT %(limit)s
) AS found
JOIN synk.job AS j ON j.id = found.id
LEFT JOIN synk.client AS c ON c.id = coalesce(j.owner, j.acked_by)
ORDER BY j.id DESC
