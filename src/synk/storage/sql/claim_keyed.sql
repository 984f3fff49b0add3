-- Claims up to %(limit)s available jobs of one queue that have a key, as claim.sql does those that have
-- none, and takes the permits that they need. Of what is not said here, see there.
--
-- By priority; within one, the keys are walked from where the last claim stopped, around, at most 64 of
-- them: each step is a look into the index, however many jobs of the key before wait. Of each key that
-- may have more at work, the head is read, a share of what is wanted, and locked. All of this is on
-- demand, in this order, and ends with the last job that is wanted; a row behind the keys of a priority,
-- without a place, says how far it came.
--
-- Then, in the order of keys, so that two claims never wait for each other crosswise: what the keys'
-- rates let begin; and permits, of slots that nobody is seen to have. The primary key says who gets
-- them: it sees rivals that have not committed. What was read and gets neither is let go.
WITH read AS MATERIALIZED (
    SELECT from_priority.*
    FROM (
        SELECT c.priority, c.key
        FROM unnest(%(cursors)s::text[]) WITH ORDINALITY AS c (key, priority)
        WHERE EXISTS (
            SELECT FROM synk.client AS c
            WHERE c.id = %(owner)s AND c.lease_until > now()
              AND c.stopped_at IS NULL AND c.dead_at IS NULL)
        OFFSET 0
    ) AS cursor
    CROSS JOIN LATERAL (
        WITH RECURSIVE walk (key, n, is_around) AS (
            SELECT cursor.key COLLATE "C", 0, false
            UNION ALL
            SELECT step.key, w.n + 1, step.is_around
            FROM walk AS w
            CROSS JOIN LATERAL (
                (SELECT j.limit_key::text, w.is_around FROM synk.job AS j
                 WHERE j.state = 'available' AND j.limit_key IS NOT NULL AND j.queue = %(queue)s
                   AND j.priority = cursor.priority AND j.limit_key > w.key COLLATE "C"
                 ORDER BY j.limit_key LIMIT 1)
                UNION ALL
                (SELECT j.limit_key::text, true FROM synk.job AS j
                 WHERE j.state = 'available' AND j.limit_key IS NOT NULL AND j.queue = %(queue)s
                   AND j.priority = cursor.priority AND NOT w.is_around
                 ORDER BY j.limit_key LIMIT 1)
                LIMIT 1
            ) AS step (key, is_around)
            WHERE w.n < 64 AND (NOT step.is_around OR step.key <= cursor.key COLLATE "C")
        ), capped AS (
            SELECT w.key, w.n, c.running, c.count, c.period, permits.held, permits.taken,
                   (permits.held + greatest(0, c.running - permits.taken))
                       * %(per_permit)s::integer AS room,
                   begun.left, begun.wait_s
            FROM walk AS w
            CROSS JOIN LATERAL (
                -- An object, as "held" is: of thousands of keys the few that are walked are looked up.
                SELECT coalesce(%(caps)s::jsonb -> w.key,
                                %(caps)s::jsonb -> split_part(w.key, ':', 1)) AS cap
                OFFSET 0
            ) AS of_key
            CROSS JOIN LATERAL (
                SELECT (of_key.cap ->> 0)::integer AS running, (of_key.cap ->> 1)::integer AS count,
                       (of_key.cap ->> 2)::float8 * interval '1 second' AS period
                OFFSET 0
            ) AS c
            LEFT JOIN LATERAL (
                -- A fail-over may have forgotten what the owner believes to have.
                SELECT least(coalesce((%(held)s::jsonb ->> w.key)::integer, 0),
                             count(*) FILTER (WHERE p.owner = %(owner)s))::integer AS held,
                       count(*)::integer AS taken
                FROM synk.permit AS p WHERE p.key = w.key
            ) AS permits ON c.running IS NOT NULL
            LEFT JOIN LATERAL (
                SELECT greatest(0, c.count - coalesce(sum(u.number), 0)::integer) AS left,
                       extract(epoch FROM min(u.at) + c.period - now())::float8 AS wait_s
                FROM synk.rate AS r CROSS JOIN unnest(r.times, r.numbers) AS u (at, number)
                WHERE r.key = w.key AND u.at > now() - c.period
            ) AS begun ON c.count IS NOT NULL
            WHERE w.n > 0
        ), share (jobs) AS MATERIALIZED (
            -- So that the keys that wait share what is wanted; as many as can have one.
            SELECT ceil(%(limit)s::float8 / greatest(1, count(*)))::integer
            FROM (SELECT FROM walk AS w WHERE w.n > 0 LIMIT least(64, %(limit)s)) AS counted
        )
        SELECT cursor.priority, k.key, false AS is_end, k.running, k.count, k.period, k.held, k.taken,
               k.room, head.place, head.bytes, false AS is_cut, NULL::float8 AS wait_s
        FROM capped AS k
        CROSS JOIN LATERAL (
            SELECT j.ctid AS place,
-- include: claimed_bytes
            FROM synk.job AS j
            WHERE j.state = 'available' AND j.limit_key IS NOT NULL
              AND j.queue = %(queue)s
              AND j.priority = cursor.priority
              AND j.limit_key = k.key
              AND j.kind = ANY (%(kinds)s)
              AND j.scheduled_at <= now()
              AND (j.start_before IS NULL OR j.start_before > now() OR j.attempt > j.uncounted)
            ORDER BY j.scheduled_at, j.id
            -- NULL is no bound.
            LIMIT least((SELECT s.jobs FROM share AS s), k.room, k.left)
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS head
        UNION ALL
        (SELECT cursor.priority, k.key, true, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                k.n = 64, min(k.wait_s) FILTER (WHERE k.left = 0) OVER ()
         FROM capped AS k ORDER BY k.n DESC LIMIT 1)
    ) AS from_priority
    -- With the rows at the ends of the first three.
    LIMIT %(limit)s + 3
), fitting AS MATERIALIZED (
    SELECT f.*
    FROM (
        SELECT r.*, row_number() OVER () AS n, sum(r.bytes) OVER (ROWS UNBOUNDED PRECEDING) AS total
        FROM read AS r WHERE NOT r.is_end
    ) AS f
    WHERE f.n <= %(limit)s AND f.total - f.bytes < %(bytes_max)s
), wanted AS MATERIALIZED (
    SELECT k.key, k.running, k.held, k.taken, k.places,
           CASE WHEN k.count IS NULL THEN k.jobs
                ELSE synk.let_begin(k.key, k.jobs, k.count, k.period) END AS jobs
    FROM (
        -- A key may have jobs of several priorities. An array: to join the jobs with their keys again
        -- would be to look at all of them for each.
        SELECT f.key, f.running, f.count, f.period, f.held, f.taken,
               least(count(*)::integer, f.room) AS jobs, array_agg(f.place ORDER BY f.n) AS places
        FROM fitting AS f
        GROUP BY f.key, f.running, f.count, f.period, f.held, f.taken, f.room
        ORDER BY f.key
        OFFSET 0
    ) AS k
), taken AS (
    INSERT INTO synk.permit (key, slot, owner, claim_seq)
    SELECT w.key, free.slot, %(owner)s, %(claim_seq)s::bigint
    FROM (
        SELECT w.*, ceil(w.jobs / %(per_permit)s::float8)::integer - w.held AS permits
        FROM wanted AS w WHERE w.running IS NOT NULL
    ) AS w
    CROSS JOIN LATERAL (
        -- Of twice as many as are wanted, so that two claims seldom meet at one.
        SELECT s.slot
        FROM generate_series(0, least(w.running, w.taken + 2 * w.permits) - 1) AS s (slot)
        WHERE NOT EXISTS (SELECT FROM synk.permit AS p WHERE p.key = w.key AND p.slot = s.slot)
        ORDER BY random()
        LIMIT greatest(0, w.permits)
    ) AS free
    ORDER BY w.key, free.slot
    ON CONFLICT DO NOTHING
    RETURNING key, slot
), claimed AS (
    UPDATE synk.job AS j
-- include: claimed_set
    FROM (
        -- No permits are asked for where the number is NULL.
        SELECT unnest(w.places[:least(w.jobs, CASE WHEN w.running IS NOT NULL THEN
            %(per_permit)s::integer * (
                w.held + (SELECT count(*)::integer FROM taken AS t WHERE t.key = w.key)) END)]) AS place
        FROM wanted AS w
    ) AS pick
    WHERE j.ctid = pick.place
    RETURNING
-- include: claimed_columns
-- include: claimed_rest
        , j.limit_key::text AS key
), ends AS MATERIALIZED (
    -- Of each priority the last key that was come to: that of its last job, or of the row behind them.
    SELECT DISTINCT ON (r.priority) r.priority, r.key, r.is_cut, r.wait_s
    FROM (SELECT r.*, row_number() OVER () AS n,
                 count(*) FILTER (WHERE NOT r.is_end) OVER (ROWS UNBOUNDED PRECEDING) AS jobs
          FROM read AS r) AS r
    WHERE r.jobs <= %(limit)s
    ORDER BY r.priority, r.n DESC
)
SELECT c.*, NULL::text AS rest FROM claimed AS c
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       jsonb_build_object(
           'permits', (SELECT jsonb_agg(jsonb_build_array(t.key, t.slot)) FROM taken AS t),
           'ends', (SELECT jsonb_agg(jsonb_build_array(e.priority, e.key)) FROM ends AS e),
           'is_cut', (SELECT bool_or(e.is_cut) FROM ends AS e),
           'token_in_s', (SELECT min(e.wait_s) FROM ends AS e))::text
