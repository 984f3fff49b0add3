-- Adds to jobs that completed in a transaction of their own what their attempt took, said and noted:
-- their outcomes came when they were over. Only where that attempt is still the last word, and the row
-- has no account yet. What somebody else has locked is skipped, and the caller offers it again.
--
-- Of state, owner and the planner, see ack.sql.
WITH given AS MATERIALIZED (
    SELECT g.*, mine.owner, mine.expected
    FROM (SELECT %(owner)s::uuid AS owner, 'completed'::synk.job_state AS expected OFFSET 0) AS mine
    CROSS JOIN unnest(
        %(ids)s::bigint[], %(attempts)s::integer[],
        %(durations_us)s::bigint[], %(cpu_us)s::bigint[], %(system_us)s::bigint[],
        %(peaks)s::bigint[], %(pids)s::integer[],
        %(outputs)s::text[], %(errors)s::jsonb[], %(progress)s::jsonb[]
    ) AS g (id, attempt, duration_us, cpu_us, system_us, peak_rss_bytes, pid, output, error,
            progress)
), held AS MATERIALIZED (
    SELECT g.* FROM given AS g
    JOIN synk.job AS j
      ON j.id = g.id AND j.state = g.expected AND j.acked_by = g.owner
     AND j.acked_attempt = g.attempt AND j.attempt = g.attempt AND j.duration_us IS NULL
    FOR NO KEY UPDATE OF j SKIP LOCKED
)
UPDATE synk.job AS j
SET duration_us = h.duration_us,
    cpu_us = h.cpu_us,
    system_us = h.system_us,
    peak_rss_bytes = h.peak_rss_bytes,
    pid = h.pid,
    -- What failed or was killed afterwards has it in its record, which does not count.
    output = coalesce(h.output, nullif(h.error ->> 'output', '')),
    progress = coalesce(h.progress, j.progress)
FROM held AS h
WHERE j.id = h.id
