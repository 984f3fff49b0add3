-- Makes a job of a periodic job now, whatever its ticks; no row if there is no such. Its tick is this
-- moment.
WITH target AS MATERIALIZED (
    SELECT p.name, p.kind, p.args, p.queue, p.priority, p.max_attempts, p.tags, p.meta,
           p.start_within, p.keep,
           CASE WHEN p.limit_name IS NOT NULL THEN synk.limit_key(
               p.limit_name, CASE WHEN p.limit_path <> '{}' THEN p.args #>> p.limit_path END) END AS limit_key,
           clock_timestamp() AS tick
    FROM synk.periodic AS p WHERE p.name = %(name)s FOR NO KEY UPDATE
), made AS (
    INSERT INTO synk.job (queue, kind, args, max_attempts, priority, name, idempotency_key, tags, meta,
                          start_before, keep, limit_key)
    SELECT t.queue, t.kind, t.args, t.max_attempts, t.priority, t.name,
           'periodic:' || t.name || ':'
           || to_char(t.tick AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
           t.tags, t.meta, now() + t.start_within, t.keep, t.limit_key
    FROM target AS t
    RETURNING id
), noted AS (
    UPDATE synk.periodic AS p SET last_job_id = m.id, runs = p.runs + 1
    FROM made AS m WHERE p.name = %(name)s
)
SELECT m.id FROM made AS m
