-- The next jobs of a filter, up to %(limit)s, behind a cursor: by their ids, or, of a final state, in the
-- order in which they ended, by the state's own index. Only so many are looked at; the one behind the last
-- of them, if it comes to that, says how far it came.
walked AS MATERIALIZED (
    (SELECT f.id, NULL::timestamptz AS ended_at, f.state, f.owner, f.finalized_at,
            f.n > %(searched)s AS is_behind
     FROM (
         SELECT e.id, e.state, e.owner, e.queue, e.kind, e.tags, e.cancel_reason, e.errors,
                e.finalized_at, e.created_at, row_number() OVER (ORDER BY e.id) AS n
         FROM synk.job AS e
         WHERE NOT %(by_end)s AND e.id > %(after_id)s AND e.id <= %(high)s
         ORDER BY e.id
         LIMIT %(searched)s + 1
     ) AS f
     WHERE f.n > %(searched)s OR
-- include: bulk_filters
     ORDER BY f.id
     LIMIT %(limit)s)
    UNION ALL
    (SELECT f.id, f.finalized_at, f.state, f.owner, f.finalized_at, f.n > %(searched)s
     FROM (
         SELECT e.id, e.state, e.owner, e.queue, e.kind, e.tags, e.cancel_reason, e.errors,
                e.finalized_at, e.created_at,
                row_number() OVER (ORDER BY e.finalized_at, e.id) AS n
         FROM synk.job AS e
         WHERE %(by_end)s AND e.state = %(ended)s::synk.job_state
           AND (e.finalized_at, e.id) > (%(after_at)s::timestamptz, %(after_id)s)
           AND e.finalized_at < %(until)s::timestamptz
         ORDER BY e.finalized_at, e.id
         LIMIT %(searched)s + 1
     ) AS f
     WHERE f.n > %(searched)s OR
-- include: bulk_filters
     ORDER BY f.finalized_at, f.id
     LIMIT %(limit)s)
), reached AS MATERIALIZED (
    -- How far it has come; nothing, if it is over.
    SELECT last.ended_at AS after_at, last.id - last.is_behind::integer AS after_id
    FROM (SELECT w.* FROM walked AS w ORDER BY w.ended_at DESC, w.id DESC LIMIT 1) AS last
    WHERE last.is_behind OR (SELECT count(*) FROM walked) >= %(limit)s
)
