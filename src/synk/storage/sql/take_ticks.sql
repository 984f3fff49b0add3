-- Swaps the next tick of a periodic job for the one after those that are due, and inserts the jobs of
-- these: if it is still as it was when they were computed, nobody has paused it, and nobody is at it.
-- Where its jobs may not overlap there are none while the last one is not over: that is read by the
-- same statement, behind the lock of the row, and there is no other way to a later one.
--
-- A job that has the key of a tick already is that tick's job.
WITH swap AS MATERIALIZED (
    SELECT p.name, p.kind, p.args, p.queue, p.priority, p.max_attempts, p.tags, p.meta,
           p.start_within, p.keep,
           CASE WHEN p.limit_name IS NOT NULL THEN synk.limit_key(
               p.limit_name, CASE WHEN p.limit_path <> '{}' THEN p.args #>> p.limit_path END) END AS limit_key,
           CASE WHEN p.overlap = 'skip' THEN (
               SELECT j.id FROM synk.job AS j
               WHERE j.id = p.last_job_id AND j.state NOT IN ('completed', 'cancelled')
           ) END AS busy_with
    FROM synk.periodic AS p
    WHERE p.name = %(name)s AND p.version = %(version)s
      AND p.next_at IS NOT DISTINCT FROM %(was)s::timestamptz AND p.paused_at IS NULL
    FOR NO KEY UPDATE OF p SKIP LOCKED
), made AS (
    INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name,
                          depends_on, idempotency_key, tags, meta, start_before, keep, limit_key)
    SELECT s.queue, s.kind, s.args, s.max_attempts, 'available'::synk.job_state,
           greatest(g.tick + g.delay, now()), s.priority, s.name, '{}', g.key, s.tags, s.meta,
           greatest(g.tick + g.delay, now()) + s.start_within, s.keep, s.limit_key
    FROM swap AS s
    CROSS JOIN unnest(%(ticks)s::timestamptz[], %(delays)s::interval[], %(keys)s::text[])
        WITH ORDINALITY AS g (tick, delay, key, n)
    WHERE s.busy_with IS NULL
    ORDER BY g.n
    ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id
), moved AS (
    UPDATE synk.periodic AS p
    SET next_at = %(next_at)s,
        last_at = CASE WHEN s.busy_with IS NULL THEN coalesce(%(last_at)s, p.last_at) ELSE p.last_at END,
        last_job_id = coalesce((SELECT max(m.id) FROM made AS m), p.last_job_id),
        runs = p.runs + (SELECT count(*) FROM made),
        skipped = p.skipped + %(skipped)s
                  + CASE WHEN s.busy_with IS NULL THEN 0 ELSE cardinality(%(ticks)s::timestamptz[]) END
    FROM swap AS s
    WHERE p.name = s.name
)
SELECT s.busy_with, ARRAY(SELECT m.id FROM made AS m ORDER BY m.id) AS job_ids FROM swap AS s
