-- Applies outcomes, each only if its fence still holds: the row is running, under the same owner,
-- attempt and claim. The number of rows it changed is the number of outcomes it applied.
--
-- Rows that somebody else has locked are skipped, and rows with a dependent that somebody else has
-- locked: an acknowledgement waits for no other writer, whoever holds what in which order, and the
-- caller offers those again. Only to dependents that are tied to a row at this very moment is that
-- left to the table's triggers, which wait.
--
-- state and owner are compared with columns, not with constants. The planner must not prove the
-- predicate of job_owner: it takes that index for an empty one and walks all its dead entries for
-- each id, fifty times slower than the primary key.
WITH given AS MATERIALIZED (
    SELECT g.*, mine.owner, mine.expected
    FROM (SELECT %(owner)s::uuid AS owner, 'running'::synk.job_state AS expected OFFSET 0) AS mine
    CROSS JOIN unnest(
        %(ids)s::bigint[], %(attempts)s::integer[], %(claim_seqs)s::bigint[],
        %(durations_us)s::bigint[], %(cpu_us)s::bigint[], %(system_us)s::bigint[],
        %(peaks)s::bigint[], %(pids)s::integer[],
        -- From here on usually empty, which unnest() fills up with NULL.
        %(states)s::synk.job_state[], %(results)s::jsonb[], %(errors)s::jsonb[],
        %(retry_at)s::timestamptz[], %(retry_in_s)s::float8[],
        %(reasons)s::synk.cancel_reason[], %(uncharged)s::integer[], %(crashed)s::integer[],
        %(outputs)s::text[], %(progress)s::jsonb[], %(checkpoints)s::jsonb[],
        %(snoozes)s::integer[]
    ) AS g (id, attempt, claim_seq, duration_us, cpu_us, system_us, peak_rss_bytes, pid, state,
            result, error, retry_at, retry_in_s, reason, uncharged, crashed, output, progress,
            checkpoint, snoozes)
), held AS MATERIALIZED (
    SELECT g.*,
           j.has_dependents,
           -- A cancel that came while the attempt ran, and failed or was let go, is granted now.
           CASE WHEN g.state IN ('scheduled', 'available') AND j.cancel_requested_at IS NOT NULL
                THEN 'cancelled' ELSE coalesce(g.state, 'completed') END AS next_state
    FROM given AS g
    JOIN synk.job AS j
      ON j.id = g.id AND j.state = g.expected AND j.owner = g.owner
     AND j.attempt = g.attempt AND j.claim_seq = g.claim_seq
    FOR NO KEY UPDATE OF j SKIP LOCKED
), dependent AS MATERIALIZED (
    -- Those of jobs that end now; no more than are settled with them (job_release, job_sweep).
    SELECT d.dependency, d.id
    FROM held AS h CROSS JOIN LATERAL (
        SELECT t.dependency, j.id
        FROM synk.tie AS t JOIN synk.job AS j ON j.id = t.dependent AND j.unmet > 0
        WHERE t.dependency = h.id
        OFFSET 0
    ) AS d
    WHERE h.has_dependents AND h.next_state IN ('completed', 'cancelled')
    LIMIT 11000
), settled AS MATERIALIZED (
    SELECT j.id FROM (SELECT DISTINCT d.id FROM dependent AS d) AS d JOIN synk.job AS j ON j.id = d.id
    FOR NO KEY UPDATE OF j SKIP LOCKED
)
UPDATE synk.job AS j
SET state = h.next_state,
    finalized_at = CASE WHEN h.next_state IN ('completed', 'cancelled') THEN now() END,
    cancel_reason = CASE WHEN h.next_state = 'cancelled' THEN coalesce(h.reason, 'requested') END,
    scheduled_at = coalesce(h.retry_at, now() + h.retry_in_s * interval '1 second', j.scheduled_at),
    uncounted = j.uncounted + coalesce(h.uncharged, 0),
    errors = CASE WHEN h.error IS NULL THEN j.errors
                  ELSE j.errors[greatest(1, cardinality(j.errors) - 18):]
                       || (jsonb_build_object('at', now()) || h.error) END,
    result = h.result,
    duration_us = h.duration_us,
    cpu_us = h.cpu_us,
    system_us = h.system_us,
    peak_rss_bytes = h.peak_rss_bytes,
    pid = h.pid,
    crashes = j.crashes + coalesce(h.crashed, 0),
    output = h.output,
    progress = coalesce(h.progress, j.progress),
    -- Where it fits in: a table's rule bounds what is there.
    meta = CASE WHEN h.snoozes IS NULL OR pg_column_size(j.meta || '{}') > 65000 THEN j.meta
                ELSE coalesce(j.meta, '{}') || jsonb_build_object('snoozes', h.snoozes) END,
    checkpoint = CASE WHEN h.next_state <> 'completed' THEN coalesce(h.checkpoint, j.checkpoint) END,
    owner = NULL,
    claim_seq = NULL,
    acked_by = h.owner,
    acked_attempt = h.attempt
FROM held AS h
WHERE j.id = h.id
  AND h.id <> ALL (ARRAY(
      SELECT d.dependency FROM dependent AS d
      WHERE d.id NOT IN (SELECT s.id FROM settled AS s)))
