-- Jobs in any state, the newest first. Only so many are looked at; the one behind the last of them, if it
-- comes to that, says that there are more.
WITH found AS (
    SELECT f.id, f.n > %(searched)s AS is_behind
    FROM (
-- include: newest_jobs
    ) AS f
    WHERE f.n > %(searched)s OR
-- include: job_filters
    -- By the key, not by n: so it is read no further than is needed.
    ORDER BY f.id DESC
    LIMIT %(limit)s
)
-- include: found_jobs
