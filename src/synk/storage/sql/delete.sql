-- Removes a job that is not running. What waits behind it is cancelled, unless it had completed.
WITH target AS MATERIALIZED (
    SELECT j.id, j.state FROM synk.job AS j WHERE j.id = %(id)s FOR UPDATE
), changed AS (
    DELETE FROM synk.job AS j USING target AS t
    WHERE j.id = t.id AND t.state <> 'running'
    RETURNING j.id
)
SELECT CASE WHEN EXISTS (SELECT FROM changed) THEN 'applied'
            WHEN EXISTS (SELECT FROM target) THEN 'refused' ELSE 'gone' END
