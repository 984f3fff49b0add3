-- Applies plain successes, the many, as ack.sql would, each only if its fence still holds, in half
-- the time: rows are not locked first. Where somebody else has locked one of them it does not wait,
-- but fails as a whole, and the caller has ack.sql do it, which passes over that one.
--
-- Of state, owner and the planner, and of MATERIALIZED, see there.
WITH given AS MATERIALIZED (
    SELECT g.*, mine.owner, mine.expected
    FROM (
        -- For this statement alone: before the first row is touched, since all of this is read first.
        SELECT %(owner)s::uuid AS owner, 'running'::synk.job_state AS expected,
               set_config('lock_timeout', '200ms', true)
        OFFSET 0
    ) AS mine
    CROSS JOIN unnest(
        %(ids)s::bigint[], %(attempts)s::integer[], %(claim_seqs)s::bigint[],
        %(durations_us)s::bigint[], %(cpu_us)s::bigint[], %(system_us)s::bigint[],
        %(peaks)s::bigint[], %(pids)s::integer[]
    ) AS g (id, attempt, claim_seq, duration_us, cpu_us, system_us, peak_rss_bytes, pid)
)
UPDATE synk.job AS j
SET state = 'completed',
    finalized_at = now(),
    cancel_reason = NULL,
    result = NULL,
    duration_us = g.duration_us,
    cpu_us = g.cpu_us,
    system_us = g.system_us,
    peak_rss_bytes = g.peak_rss_bytes,
    pid = g.pid,
    output = NULL,
    checkpoint = NULL,
    owner = NULL,
    claim_seq = NULL,
    acked_by = g.owner,
    acked_attempt = g.attempt
FROM given AS g
WHERE j.id = g.id AND j.state = g.expected AND j.owner = g.owner
  AND j.attempt = g.attempt AND j.claim_seq = g.claim_seq
