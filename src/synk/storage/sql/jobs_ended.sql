-- Jobs that ended in a state, those that ended last, listed with the newest first.
WITH since (at) AS MATERIALIZED (
    SELECT coalesce(%(since)s::timestamptz, now() - %(age)s::interval, '-infinity')
), found AS MATERIALIZED (
    SELECT ended.id, ended.is_behind
    FROM (VALUES (%(state)s::synk.job_state)) AS final (state)
    CROSS JOIN LATERAL (
-- include: ended_jobs
    ) AS ended
)
-- include: found_jobs
