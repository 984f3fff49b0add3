-- Lets a held job go: it runs when its time has come and its dependencies are completed.
WITH target AS MATERIALIZED (
    SELECT j.id, j.state = 'pending' AND j.held AS is_held
    FROM synk.job AS j WHERE j.id = %(id)s FOR NO KEY UPDATE
), changed AS (
    UPDATE synk.job AS j
    SET held = false,
        state = CASE WHEN j.unmet > 0 THEN 'pending'
                     WHEN j.scheduled_at > now() THEN 'scheduled'
                     ELSE 'available' END::synk.job_state
    FROM target AS t
    WHERE j.id = t.id AND t.is_held
    RETURNING CASE WHEN j.state = 'available' THEN pg_notify('synk.job', j.queue)::text END AS told
)
SELECT CASE WHEN EXISTS (SELECT c.told FROM changed AS c) THEN 'applied'
            WHEN EXISTS (SELECT FROM target) THEN 'refused' ELSE 'gone' END
