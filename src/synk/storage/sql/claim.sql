-- Claims up to %(limit)s available jobs of one queue that have no limit's key, the most urgent first,
-- for a supervisor that holds its lease. Of jobs that have one, see claim_keyed.sql.
--
-- Each priority is read from its cursor on, or from the beginning, until the limit is reached: the
-- cursors come in the order of the priorities, and a nested loop keeps it.
--
-- Of those, no more are taken once they weigh %(bytes_max)s bytes, by what PostgreSQL's own form of
-- them takes, without compression: only what is compressed is read for it. The others are let go.
--
-- Joined by ctid, where they were just locked: one look into an index less for each. A row that somebody
-- changed in that very moment has moved, and is left to the next claim.
--
-- MATERIALIZED: the planner must not run the locking part more than once, which could claim more
-- than the limit. What comes back is in no order; the caller sorts it.
WITH read AS MATERIALIZED (
    SELECT urgent.place, urgent.bytes
    FROM (
        SELECT to_timestamp(m.at) AS at, m.id, m.priority
        FROM unnest(%(cursors_at)s::float8[], %(cursors_id)s::bigint[])
            WITH ORDINALITY AS m (at, id, priority)
        WHERE EXISTS (
            SELECT FROM synk.client AS c
            WHERE c.id = %(owner)s AND c.lease_until > now()
              AND c.stopped_at IS NULL AND c.dead_at IS NULL)
        OFFSET 0
    ) AS cursor
    CROSS JOIN LATERAL (
        SELECT j.ctid AS place,
-- include: claimed_bytes
        FROM synk.job AS j
        WHERE j.state = 'available'
          AND j.limit_key IS NULL
          AND j.queue = %(queue)s
          AND j.priority = cursor.priority
          AND (j.scheduled_at, j.id) > (cursor.at, cursor.id)
          AND j.kind = ANY (%(kinds)s)
          AND j.scheduled_at <= now()
          -- What has not begun by then does not begin any more.
          AND (j.start_before IS NULL OR j.start_before > now() OR j.attempt > j.uncounted)
        ORDER BY j.scheduled_at, j.id
        LIMIT %(limit)s
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS urgent
    LIMIT %(limit)s
), pick AS (
    SELECT weighed.place
    FROM (
        SELECT r.place, r.bytes, sum(r.bytes) OVER (ROWS UNBOUNDED PRECEDING) AS total FROM read AS r
    ) AS weighed
    WHERE weighed.total - weighed.bytes < %(bytes_max)s
)
UPDATE synk.job AS j
-- include: claimed_set
FROM pick
WHERE j.ctid = pick.place
RETURNING
-- include: claimed_columns
-- include: claimed_rest
