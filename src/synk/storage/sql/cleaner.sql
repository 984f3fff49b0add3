-- Looks at up to %(limit)s jobs that ended in one state longer ago than its retention, the oldest first,
-- from a time on, and removes them, but for those that have a retention of their own (sweep.sql): of
-- these there may be millions, which no batch passes over twice.
WITH seen AS MATERIALIZED (
    SELECT j.id, j.finalized_at, j.keep IS NULL AS is_old
    FROM synk.job AS j
    WHERE j.state = %(state)s::synk.job_state AND j.finalized_at < now() - %(retention)s::interval
      AND j.finalized_at >= coalesce(%(after)s::timestamptz, '-infinity')
    ORDER BY j.finalized_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), removed AS (
    DELETE FROM synk.job AS j USING seen AS s WHERE j.id = s.id AND s.is_old RETURNING j.id
)
SELECT count(*) AS looked, (SELECT count(*) FROM removed) AS removed, max(s.finalized_at) AS last
FROM seen AS s
