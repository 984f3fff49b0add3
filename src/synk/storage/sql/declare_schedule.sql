-- Stores a periodic job if it is new or says something else than what was declared before. Says
-- nothing where there is no difference.
INSERT INTO synk.periodic AS p (name, cron, every, tz, missed, max_late, jitter, overlap, kind, args,
                                queue, priority, max_attempts, tags, meta, start_within, keep, limit_name, limit_path,
                                hash)
SELECT %(name)s, %(cron)s, %(every)s::interval, %(tz)s, %(missed)s, %(max_late)s::interval,
       %(jitter)s::interval, %(overlap)s, %(kind)s, %(args)s::jsonb, %(queue)s, %(priority)s::smallint,
       %(max_attempts)s::integer, %(tags)s::text[], %(meta)s::jsonb,
       %(start_within)s::interval, %(keep)s::interval, %(limit_name)s, %(limit_path)s::text[],
       %(hash)s
-- The usual case ends here: what the table's trigger does before a row is inserted is done then, also
-- where the row is there.
WHERE NOT EXISTS (
    SELECT FROM synk.periodic AS k WHERE k.name = %(name)s AND k.hash = %(hash)s)
ON CONFLICT (name) DO UPDATE
SET cron = excluded.cron, every = excluded.every, tz = excluded.tz, missed = excluded.missed,
    max_late = excluded.max_late, jitter = excluded.jitter, overlap = excluded.overlap,
    kind = excluded.kind, args = excluded.args, queue = excluded.queue, priority = excluded.priority,
    max_attempts = excluded.max_attempts, tags = excluded.tags, meta = excluded.meta,
    start_within = excluded.start_within, keep = excluded.keep,
    limit_name = excluded.limit_name, limit_path = excluded.limit_path,
    hash = excluded.hash
WHERE p.hash IS DISTINCT FROM excluded.hash
RETURNING xmax = 0 AS is_new
