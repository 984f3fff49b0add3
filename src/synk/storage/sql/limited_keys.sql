-- The keys of limits: of what waits, up to so many of them in the order of queues and priorities, each
-- with its jobs counted up to a limit; and of all permits. What has begun of late of a key, as numbers
-- and how long ago each part of a period ended, in seconds.
WITH RECURSIVE walk (queue, priority, key, n) AS (
    SELECT NULL::text, 0::smallint, NULL::text COLLATE "C", 0
    UNION ALL
    SELECT step.*, w.n + 1
    FROM walk AS w
    CROSS JOIN LATERAL (
        -- The next key in the index, not the next row.
        SELECT j.queue, j.priority, j.limit_key::text FROM synk.job AS j
        WHERE j.state = 'available' AND j.limit_key IS NOT NULL
          AND (w.n = 0 OR (j.queue, j.priority, j.limit_key) > (w.queue, w.priority, w.key COLLATE "C"))
        ORDER BY j.queue, j.priority, j.limit_key
        LIMIT 1
    ) AS step
    WHERE w.n < %(keys)s
), counted AS MATERIALIZED (
    SELECT w.key, count.waiting
    FROM walk AS w
    CROSS JOIN LATERAL (
        SELECT count(*) AS waiting FROM (
            SELECT FROM synk.job AS j
            WHERE j.state = 'available' AND j.limit_key IS NOT NULL
              AND j.queue = w.queue AND j.priority = w.priority AND j.limit_key = w.key
            LIMIT %(jobs)s
        ) AS j
    ) AS count
    WHERE w.n > 0
), taken AS MATERIALIZED (
    SELECT p.key::text AS key, count(*) AS permits,
           array_agg(DISTINCT p.owner::text ORDER BY p.owner::text) AS owners
    FROM synk.permit AS p GROUP BY p.key
)
SELECT k.key, sum(k.waiting)::bigint AS waiting, bool_or(k.waiting >= %(jobs)s) AS is_more,
       max(k.permits) AS permits, max(k.owners) AS owners,
       (SELECT jsonb_agg(jsonb_build_array(extract(epoch FROM now() - u.at), u.number))::text
        FROM synk.rate AS r CROSS JOIN unnest(r.times, r.numbers) AS u (at, number)
        WHERE r.key = k.key) AS begun,
       (SELECT max(w.n) FROM walk AS w) >= %(keys)s AS is_cut
FROM (
    SELECT c.key, c.waiting, 0 AS permits, '{}'::text[] AS owners FROM counted AS c
    UNION ALL
    SELECT t.key, 0, t.permits, t.owners FROM taken AS t
) AS k
GROUP BY k.key
ORDER BY k.key
