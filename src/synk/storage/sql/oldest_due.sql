-- Of each queue with jobs that may begin, for how many seconds the first of them has waited: one look
-- into an index for each queue and priority.
WITH RECURSIVE names (queue) AS (
    (SELECT j.queue FROM synk.job AS j WHERE j.state = 'available' ORDER BY j.queue LIMIT 1)
    UNION ALL
    SELECT (SELECT j.queue FROM synk.job AS j
            WHERE j.state = 'available' AND j.queue > n.queue ORDER BY j.queue LIMIT 1)
    FROM names AS n WHERE n.queue IS NOT NULL
)
SELECT n.queue, (
    SELECT extract(epoch FROM now() - min(first.at))::float8
    FROM unnest(ARRAY[1, 2, 3, 4]) AS p (priority)
    CROSS JOIN LATERAL (
        SELECT j.scheduled_at AS at FROM synk.job AS j
        WHERE j.state = 'available' AND j.queue = n.queue AND j.priority = p.priority
        ORDER BY j.scheduled_at, j.id
        LIMIT 1
    ) AS first
) AS age_s
FROM names AS n WHERE n.queue IS NOT NULL
