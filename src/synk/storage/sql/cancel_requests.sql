-- The running jobs of one supervisor that somebody wants cancelled.
SELECT j.id, j.attempt, j.claim_seq
FROM synk.job AS j
WHERE j.owner = %(owner)s AND j.cancel_requested_at IS NOT NULL AND j.state = 'running'
