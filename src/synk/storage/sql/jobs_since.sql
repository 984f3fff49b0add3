-- Jobs that ended since a time, by job_final, however old they are; and of the newest jobs those that were
-- inserted since. Of each only so many are looked at; as in jobs.sql, a row behind says that there are more.
WITH since (at) AS MATERIALIZED (
    SELECT coalesce(%(since)s::timestamptz, now() - %(age)s::interval)
), found AS MATERIALIZED (
    SELECT ended.id, ended.is_behind
    FROM (VALUES ('completed'::synk.job_state), ('cancelled')) AS final (state)
    CROSS JOIN LATERAL (
-- include: ended_jobs
    ) AS ended
    UNION ALL
    (SELECT f.id, f.n > %(searched)s
     FROM (
-- include: newest_jobs
     ) AS f
     WHERE f.created_at >= (SELECT s.at FROM since AS s) AND (
         f.n > %(searched)s OR f.state NOT IN ('completed', 'cancelled') AND
-- include: job_filters
     )
     ORDER BY f.id DESC
     LIMIT %(limit)s)
)
-- include: found_jobs
