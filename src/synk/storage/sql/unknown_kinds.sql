-- Kinds of waiting jobs that no living supervisor of their queue has a worker for, the most frequent
-- first. Of a queue that nobody serves, or somebody who does not say what he knows, nothing is said.
--
-- Nobody claims such jobs, so that they come to the front of their queue by and by: only that is looked
-- at, of each priority. However much waits, it costs the same. Of jobs that have a limit's key, at as many
-- again, in the order of keys.
WITH living AS MATERIALIZED (
    SELECT c.queues, c.kinds FROM synk.client AS c
    WHERE c.lease_until > now() AND c.stopped_at IS NULL AND c.dead_at IS NULL
), served AS MATERIALIZED (
    SELECT q.queue FROM living AS l CROSS JOIN unnest(l.queues) AS q (queue)
    WHERE %(queues)s::text[] IS NULL OR q.queue = ANY (%(queues)s::text[])
    GROUP BY q.queue
    HAVING bool_and(l.kinds IS NOT NULL)
)
SELECT s.queue, w.kind, count(*) AS count, bool_or(w.is_cut) AS is_more, min(w.id) AS job_id
FROM served AS s
CROSS JOIN generate_series(1, 4) AS p (priority)
CROSS JOIN LATERAL (
    SELECT front.id, front.kind, count(*) OVER () >= %(limit)s AS is_cut
    FROM (
        (SELECT j.id, j.kind FROM synk.job AS j
         WHERE j.state = 'available' AND j.limit_key IS NULL
           AND j.queue = s.queue AND j.priority = p.priority
         ORDER BY j.scheduled_at, j.id
         LIMIT %(limit)s)
        UNION ALL
        (SELECT j.id, j.kind FROM synk.job AS j
         WHERE j.state = 'available' AND j.limit_key IS NOT NULL
           AND j.queue = s.queue AND j.priority = p.priority
         ORDER BY j.limit_key, j.scheduled_at, j.id
         LIMIT %(limit)s)
    ) AS front
) AS w
WHERE NOT EXISTS (SELECT FROM living AS l WHERE s.queue = ANY (l.queues) AND w.kind = ANY (l.kinds))
GROUP BY s.queue, w.kind
ORDER BY count(*) DESC, s.queue, w.kind
LIMIT %(kinds_max)s
