-- Makes scheduled jobs available whose time has come.
WITH due AS MATERIALIZED (
    SELECT j.id FROM synk.job AS j
    WHERE j.state = 'scheduled' AND j.scheduled_at <= now()
    ORDER BY j.scheduled_at
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE synk.job AS j SET state = 'available' FROM due WHERE j.id = due.id
