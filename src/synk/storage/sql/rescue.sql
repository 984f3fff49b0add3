-- Takes running jobs from owners that will never act again. The attempt is charged: it may have run.
-- All guards are constants on the locked row, never on a joined one, which a re-check under READ
-- COMMITTED would compare with its old version.
--
-- Their permits go with them, all at once: an owner that will never act again has no process left.
WITH permits AS MATERIALIZED (
    SELECT p.key, p.slot FROM synk.permit AS p
    WHERE p.owner = ANY (%(dead)s::uuid[])
    ORDER BY p.key, p.slot
    FOR UPDATE
), freed AS (
    DELETE FROM synk.permit AS p USING permits AS f
    WHERE p.key = f.key AND p.slot = f.slot AND p.owner = ANY (%(dead)s::uuid[])
), picked AS MATERIALIZED (
    SELECT j.id FROM synk.job AS j
    WHERE j.state = 'running' AND j.owner = ANY (%(dead)s::uuid[])
    ORDER BY j.id
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT j.id,
           CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'requested'
                WHEN j.lost + 1 >= %(lost_max)s THEN 'poison'
                WHEN j.attempt - j.uncounted >= j.max_attempts THEN 'failed'
           END::synk.cancel_reason AS reason,
           (SELECT c.host FROM synk.client AS c WHERE c.id = j.owner) AS host
    FROM synk.job AS j JOIN picked AS p ON p.id = j.id
)
UPDATE synk.job AS j
SET state = CASE WHEN v.reason IS NULL THEN 'available' ELSE 'cancelled' END::synk.job_state,
    cancel_reason = v.reason,
    finalized_at = CASE WHEN v.reason IS NOT NULL THEN now() END,
    lost = j.lost + 1,
    errors = j.errors[greatest(1, cardinality(j.errors) - 18):] || jsonb_build_object(
        'at', now(), 'attempt', j.attempt, 'cause', 'lost',
        'error', 'its supervisor was lost: it did not renew its lease, or ended without a word',
        'host', v.host, 'supervisor', j.attempted_by[cardinality(j.attempted_by)]),
    owner = NULL,
    claim_seq = NULL
FROM judged AS v
WHERE j.id = v.id AND j.state = 'running' AND j.owner = ANY (%(dead)s::uuid[])
RETURNING j.id AS job_id, j.attempt, j.state
