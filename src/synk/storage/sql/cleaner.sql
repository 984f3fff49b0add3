-- Removes up to %(limit)s jobs that ended in one state longer ago than its retention.
WITH old AS MATERIALIZED (
    SELECT j.id FROM synk.job AS j
    WHERE j.state = %(state)s::synk.job_state AND j.finalized_at < now() - %(retention)s::interval
    ORDER BY j.finalized_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
DELETE FROM synk.job AS j USING old WHERE j.id = old.id
