-- Jobs in any state, the newest first. Only so many are looked at; the one behind the last of them, if it
-- comes to that, says that there are more.
-- include: listed_columns
, found.is_behind
FROM (
    SELECT f.id, f.n > %(searched)s AS is_behind
    FROM (
        SELECT e.id, e.queue, e.kind, row_number() OVER (ORDER BY e.id DESC) AS n
        FROM synk.job AS e
        ORDER BY e.id DESC
        LIMIT %(searched)s + 1
    ) AS f
    WHERE f.n > %(searched)s OR
-- include: job_filters
    -- By the key, not by n: so it is read no further than is needed.
    ORDER BY f.id DESC
    LIMIT %(limit)s
) AS found
JOIN synk.job AS j ON j.id = found.id
LEFT JOIN synk.client AS c ON c.id = coalesce(j.owner, j.acked_by)
ORDER BY j.id DESC
