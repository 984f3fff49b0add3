-- Gives running jobs their limits' keys, and back, each only if its fence still holds: available again,
-- as if it had not been claimed. What is to be cancelled, or is locked by somebody else, is left out.
--
-- Of state, owner and the planner, see ack.sql.
WITH given AS MATERIALIZED (
    SELECT g.*, mine.owner, mine.expected
    FROM (SELECT %(owner)s::uuid AS owner, 'running'::synk.job_state AS expected OFFSET 0) AS mine
    CROSS JOIN unnest(
        %(ids)s::bigint[], %(attempts)s::integer[], %(claim_seqs)s::bigint[],
        %(names)s::text[], %(paths)s::text[]
    ) AS g (id, attempt, claim_seq, name, path)
), held AS MATERIALIZED (
    SELECT g.* FROM given AS g
    JOIN synk.job AS j
      ON j.id = g.id AND j.state = g.expected AND j.owner = g.owner
     AND j.attempt = g.attempt AND j.claim_seq = g.claim_seq AND j.cancel_requested_at IS NULL
    FOR NO KEY UPDATE OF j SKIP LOCKED
), keyed AS (
    UPDATE synk.job AS j
    -- Without a path, #>> would take all of the arguments.
    SET limit_key = synk.limit_key(
            h.name, CASE WHEN h.path <> '{}' THEN j.args #>> h.path::text[] END),
        state = 'available',
        uncounted = j.uncounted + 1,
        owner = NULL,
        claim_seq = NULL,
        acked_by = h.owner,
        acked_attempt = h.attempt
    FROM held AS h
    WHERE j.id = h.id
    RETURNING j.id, j.queue
), told AS MATERIALIZED (
    SELECT pg_notify('synk.job', k.queue)::text AS told FROM (SELECT DISTINCT k.queue FROM keyed AS k) AS k
)
SELECT k.id FROM keyed AS k WHERE (SELECT count(t.told) FROM told AS t) > 0
