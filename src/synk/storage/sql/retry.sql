-- Makes a finished job, or one that waits for its time, available at once. The attempts keep their
-- numbers: a job that used them up gets one more.
WITH target AS MATERIALIZED (
    SELECT j.id, j.state FROM synk.job AS j WHERE j.id = %(id)s FOR NO KEY UPDATE
), changed AS (
    UPDATE synk.job AS j
    SET state = 'available',
        scheduled_at = now(),
        finalized_at = NULL,
        cancel_reason = NULL,
        cancel_requested_at = NULL,
        held = false,
        waiting_on = '{}',
        result = NULL,
        duration_us = NULL,
        cpu_us = NULL,
        system_us = NULL,
        peak_rss_bytes = NULL,
        pid = NULL,
        crashes = 0,
        lost = 0,
        output = NULL,
        progress = NULL,
        max_attempts = greatest(j.max_attempts, j.attempt - j.uncounted + 1)
    FROM target AS t
    WHERE j.id = t.id AND t.state IN ('completed', 'cancelled', 'scheduled')
    RETURNING pg_notify('synk.job', j.queue)::text AS told
)
SELECT CASE WHEN EXISTS (SELECT c.told FROM changed AS c) THEN 'applied'
            WHEN EXISTS (SELECT FROM target) THEN 'refused' ELSE 'gone' END
