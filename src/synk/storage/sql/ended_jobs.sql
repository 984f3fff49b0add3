        -- Jobs that ended in final.state since a time, those that ended last first. By job_final, so that
        -- only what ended since then is looked at; and no more than so many, as in jobs.sql.
        SELECT f.id, f.n > %(searched)s AS is_behind
        FROM (
            SELECT e.id, e.queue, e.kind, e.tags, e.cancel_reason, e.finalized_at,
                   row_number() OVER (ORDER BY e.finalized_at DESC) AS n
            FROM synk.job AS e
            WHERE e.state = final.state AND e.finalized_at >= (SELECT s.at FROM since AS s)
            ORDER BY e.finalized_at DESC
            LIMIT %(searched)s + 1
        ) AS f
        WHERE f.n > %(searched)s OR (
            %(reason)s::synk.cancel_reason IS NULL OR f.cancel_reason = %(reason)s::synk.cancel_reason) AND
-- include: job_filters
        ORDER BY f.finalized_at DESC
        LIMIT %(limit)s
