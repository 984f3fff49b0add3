-- Removes a job, unless a supervisor runs it. What waits behind it is cancelled, unless it had
-- completed.
WITH target AS MATERIALIZED (
    SELECT j.id, j.state, j.owner FROM synk.job AS j WHERE j.id = %(id)s FOR UPDATE
), changed AS (
    DELETE FROM synk.job AS j USING target AS t
    WHERE j.id = t.id AND t.owner IS NULL
    RETURNING t.state
)
SELECT CASE WHEN EXISTS (SELECT FROM changed AS c WHERE c.state = 'running') THEN 'taken'
            WHEN EXISTS (SELECT FROM changed) THEN 'applied'
            WHEN EXISTS (SELECT FROM target) THEN 'refused' ELSE 'gone' END
