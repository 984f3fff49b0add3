-- Jobs in a state that is not final, the newest first: of the newest of all, and, if that is not enough,
-- of those that the state's own index has, however old they are. Of each only so many are looked at; as in
-- jobs.sql, a row behind says that there are more.
WITH since (at) AS MATERIALIZED (
    SELECT coalesce(%(since)s::timestamptz, now() - %(age)s::interval, '-infinity')
), newest AS MATERIALIZED (
    SELECT f.id, f.n > %(searched)s AS is_behind
    FROM (
-- include: newest_jobs
    ) AS f
    WHERE f.created_at >= (SELECT s.at FROM since AS s) AND (
        f.n > %(searched)s OR f.state = %(state)s::synk.job_state AND
-- include: job_filters
    )
    ORDER BY f.id DESC
    LIMIT %(limit)s
), wanted (state) AS MATERIALIZED (
    SELECT %(state)s::text WHERE (SELECT count(*) FROM newest AS n WHERE NOT n.is_behind) < %(limit)s
), waiting AS MATERIALIZED (
    SELECT t.dependent FROM synk.tie AS t
    WHERE (SELECT w.state FROM wanted AS w) = 'pending'
    ORDER BY t.dependent DESC
    LIMIT %(searched)s + 1
), own AS MATERIALIZED (
    (SELECT e.id, e.queue, e.kind, e.tags, e.created_at FROM synk.job AS e
     WHERE e.state = 'available' AND e.limit_key IS NULL
       AND (SELECT w.state FROM wanted AS w) = 'available'
     ORDER BY e.queue, e.priority, e.scheduled_at, e.id
     LIMIT %(searched)s + 1)
    UNION ALL
    (SELECT e.id, e.queue, e.kind, e.tags, e.created_at FROM synk.job AS e
     WHERE e.state = 'available' AND e.limit_key IS NOT NULL
       AND (SELECT w.state FROM wanted AS w) = 'available'
     ORDER BY e.queue, e.priority, e.limit_key, e.scheduled_at, e.id
     LIMIT %(searched)s + 1)
    UNION ALL
    (SELECT e.id, e.queue, e.kind, e.tags, e.created_at FROM synk.job AS e
     WHERE e.state = 'scheduled' AND (SELECT w.state FROM wanted AS w) = 'scheduled'
     ORDER BY e.scheduled_at
     LIMIT %(searched)s + 1)
    UNION ALL
    (SELECT e.id, e.queue, e.kind, e.tags, e.created_at FROM synk.job AS e
     WHERE e.state = 'running' AND (SELECT w.state FROM wanted AS w) = 'running'
     ORDER BY e.owner
     LIMIT %(searched)s + 1)
    UNION ALL
    (SELECT e.id, e.queue, e.kind, e.tags, e.created_at FROM synk.job AS e
     WHERE e.held AND e.state = 'pending' AND (SELECT w.state FROM wanted AS w) = 'pending'
     ORDER BY e.id DESC
     LIMIT %(searched)s + 1)
    UNION ALL
    (SELECT e.id, e.queue, e.kind, e.tags, e.created_at
     FROM (SELECT DISTINCT t.dependent FROM waiting AS t) AS d
     JOIN synk.job AS e ON e.id = d.dependent AND e.state = 'pending')
), found AS (
    SELECT f.id, false AS is_behind FROM own AS f
    WHERE f.created_at >= (SELECT s.at FROM since AS s) AND
-- include: job_filters
    UNION
    SELECT n.id, false FROM newest AS n WHERE NOT n.is_behind
    UNION
    -- All of a state are in its own index; of pending ones the held are in one, and who waits has a tie.
    SELECT n.id, true FROM newest AS n
    WHERE n.is_behind
      AND greatest((SELECT count(*) FROM own), (SELECT count(*) FROM waiting)) > %(searched)s
)
-- include: found_jobs
