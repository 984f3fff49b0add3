-- Cancels a job: at once where it is not running, else by a request that its supervisor grants.
-- Whatever waits behind it is cancelled by the table's trigger, in the same statement.
WITH target AS MATERIALIZED (
    SELECT j.id, j.state, j.owner FROM synk.job AS j WHERE j.id = %(id)s FOR NO KEY UPDATE
), changed AS (
    UPDATE synk.job AS j
    SET cancel_requested_at = coalesce(j.cancel_requested_at, now()),
        state = CASE WHEN t.state = 'running' THEN t.state ELSE 'cancelled' END,
        finalized_at = CASE WHEN t.state = 'running' THEN NULL ELSE now() END,
        cancel_reason = CASE WHEN t.state <> 'running'
                             THEN 'requested'::synk.cancel_reason END,
        held = false,
        waiting_on = '{}'
    FROM target AS t
    WHERE j.id = t.id AND t.state NOT IN ('completed', 'cancelled')
    RETURNING CASE WHEN t.state = 'running' THEN 'requested' ELSE 'applied' END AS answer,
              CASE WHEN t.state = 'running'
                   THEN pg_notify('synk.cancel', t.owner::text)::text END AS told
)
SELECT coalesce(
    (SELECT c.answer FROM changed AS c WHERE c.told IS DISTINCT FROM 'x'),
    (SELECT 'refused' FROM target), 'gone')
