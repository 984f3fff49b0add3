-- Gives back, uncharged, what one claim call took whose answer never arrived.
UPDATE synk.job AS j
SET state = CASE WHEN j.cancel_requested_at IS NULL THEN 'available' ELSE 'cancelled' END::synk.job_state,
    finalized_at = CASE WHEN j.cancel_requested_at IS NOT NULL THEN now() END,
    cancel_reason = CASE WHEN j.cancel_requested_at IS NOT NULL
                         THEN 'requested'::synk.cancel_reason END,
    uncounted = j.uncounted + 1,
    owner = NULL,
    claim_seq = NULL
WHERE j.state = 'running' AND j.owner = %(owner)s AND j.claim_seq = %(claim_seq)s
