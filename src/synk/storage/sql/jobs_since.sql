-- Jobs that ended since a time, by job_final, however old they are; and of the newest jobs those that were
-- inserted since. Of each only so many are looked at; as in jobs.sql, a row behind says that there are more.
WITH since (at) AS MATERIALIZED (
    SELECT coalesce(%(since)s::timestamptz, now() - %(age)s::interval)
), found AS MATERIALIZED (
    (SELECT f.id, f.n > %(searched)s AS is_behind
     FROM (
        SELECT e.id, e.queue, e.kind, e.finalized_at,
               row_number() OVER (ORDER BY e.finalized_at DESC) AS n
        FROM synk.job AS e
        WHERE e.state = 'completed' AND e.finalized_at >= (SELECT s.at FROM since AS s)
        ORDER BY e.finalized_at DESC
        LIMIT %(searched)s + 1
     ) AS f
     WHERE f.n > %(searched)s OR
-- include: job_filters
     ORDER BY f.finalized_at DESC
     LIMIT %(limit)s)
    UNION ALL
    (SELECT f.id, f.n > %(searched)s
     FROM (
        SELECT e.id, e.queue, e.kind, e.finalized_at,
               row_number() OVER (ORDER BY e.finalized_at DESC) AS n
        FROM synk.job AS e
        WHERE e.state = 'cancelled' AND e.finalized_at >= (SELECT s.at FROM since AS s)
        ORDER BY e.finalized_at DESC
        LIMIT %(searched)s + 1
     ) AS f
     WHERE f.n > %(searched)s OR
-- include: job_filters
     ORDER BY f.finalized_at DESC
     LIMIT %(limit)s)
    UNION ALL
    (SELECT f.id, f.n > %(searched)s
     FROM (
        SELECT e.id, e.state, e.queue, e.kind, e.created_at,
               row_number() OVER (ORDER BY e.id DESC) AS n
        FROM synk.job AS e
        ORDER BY e.id DESC
        LIMIT %(searched)s + 1
     ) AS f
     WHERE f.created_at >= (SELECT s.at FROM since AS s) AND (
         f.n > %(searched)s OR f.state NOT IN ('completed', 'cancelled') AND
-- include: job_filters
     )
     ORDER BY f.id DESC
     LIMIT %(limit)s)
)
-- include: listed_columns
, found.is_behind
FROM (SELECT n.id, n.is_behind FROM found AS n ORDER BY n.is_behind, n.id DESC LIMIT %(limit)s) AS found
JOIN synk.job AS j ON j.id = found.id
LEFT JOIN synk.client AS c ON c.id = coalesce(j.owner, j.acked_by)
ORDER BY j.id DESC
