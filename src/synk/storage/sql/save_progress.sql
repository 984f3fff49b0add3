-- Stores what running jobs have noted, each only if its fence still holds. A row that somebody else
-- has locked is skipped: the next time brings it again.
WITH given AS MATERIALIZED (
    SELECT g.*, mine.owner, mine.expected
    FROM (SELECT %(owner)s::uuid AS owner, 'running'::synk.job_state AS expected OFFSET 0) AS mine
    CROSS JOIN unnest(
        %(ids)s::bigint[], %(attempts)s::integer[], %(claim_seqs)s::bigint[],
        %(progress)s::jsonb[], %(checkpoints)s::jsonb[]
    ) AS g (id, attempt, claim_seq, progress, checkpoint)
), held AS MATERIALIZED (
    SELECT g.* FROM given AS g
    JOIN synk.job AS j
      ON j.id = g.id AND j.state = g.expected AND j.owner = g.owner
     AND j.attempt = g.attempt AND j.claim_seq = g.claim_seq
    FOR NO KEY UPDATE OF j SKIP LOCKED
)
UPDATE synk.job AS j
SET progress = coalesce(h.progress, j.progress),
    checkpoint = coalesce(h.checkpoint, j.checkpoint)
FROM held AS h
WHERE j.id = h.id
