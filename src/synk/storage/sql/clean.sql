-- Removes up to %(limit)s jobs that ended in one state longer ago than its retention.
WITH old AS MATERIALIZED (
    SELECT j.id FROM synk.job AS j
    WHERE j.state = %(state)s::synk.job_state AND j.finalized_at < now() - %(retention)s::interval
    ORDER BY j.finalized_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), removed AS (
    DELETE FROM synk.job AS j USING old WHERE j.id = old.id RETURNING j.id, j.state
), mark AS (
    -- A job that is inserted later may still name these: they count as completed.
    UPDATE synk.cleaned AS c SET cleaned_up_to = greatest(c.cleaned_up_to, r.newest)
    FROM (SELECT max(removed.id) AS newest FROM removed WHERE removed.state = 'completed') AS r
    WHERE r.newest > c.cleaned_up_to
)
SELECT count(*) FROM removed
