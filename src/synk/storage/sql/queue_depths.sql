-- How many jobs wait and run in each queue, and how many are scheduled in all: each counted up to a
-- limit, so that it costs the same however many millions there are. Those that have a limit's key are in
-- an index of their own.
WITH RECURSIVE names (queue) AS (
    SELECT least(
        (SELECT j.queue FROM synk.job AS j
         WHERE j.state = 'available' AND j.limit_key IS NULL ORDER BY j.queue LIMIT 1),
        (SELECT j.queue FROM synk.job AS j
         WHERE j.state = 'available' AND j.limit_key IS NOT NULL ORDER BY j.queue LIMIT 1))
    UNION ALL
    -- The next name in the index, not the next row.
    SELECT least(
        (SELECT j.queue FROM synk.job AS j
         WHERE j.state = 'available' AND j.limit_key IS NULL AND j.queue > n.queue
         ORDER BY j.queue LIMIT 1),
        (SELECT j.queue FROM synk.job AS j
         WHERE j.state = 'available' AND j.limit_key IS NOT NULL AND j.queue > n.queue
         ORDER BY j.queue LIMIT 1))
    FROM names AS n WHERE n.queue IS NOT NULL
)
SELECT n.queue, 'available' AS state, (
    SELECT count(*) FROM (
        (SELECT FROM synk.job AS j
         WHERE j.state = 'available' AND j.limit_key IS NULL AND j.queue = n.queue)
        UNION ALL
        (SELECT FROM synk.job AS j
         WHERE j.state = 'available' AND j.limit_key IS NOT NULL AND j.queue = n.queue)
        LIMIT %(limit)s
    ) AS counted
) AS count
FROM names AS n WHERE n.queue IS NOT NULL
UNION ALL
SELECT j.queue, 'running', count(*) FROM synk.job AS j WHERE j.state = 'running' GROUP BY j.queue
UNION ALL
SELECT NULL, 'scheduled', count(*) FROM (
    SELECT FROM synk.job AS j WHERE j.state = 'scheduled' LIMIT %(limit)s
) AS counted
