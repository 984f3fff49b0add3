-- Limits: how many processes may be at work for one key, and how many jobs may begin in a time.
--
-- A job with a limit_key is claimed by statements of its own, by an index of its own. It is as long as
-- an index of what waits may hold; the type costs the rows nothing that have none. In bytes' order, so
-- that keys are compared quickly.
ALTER TABLE synk.job ADD COLUMN IF NOT EXISTS limit_key varchar(127) COLLATE "C";
CREATE INDEX CONCURRENTLY IF NOT EXISTS job_claim_plain ON synk.job (queue, priority, scheduled_at, id)
    WHERE state = 'available' AND limit_key IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS job_claim_keyed
    ON synk.job (queue, priority, limit_key, scheduled_at, id)
    WHERE state = 'available' AND limit_key IS NOT NULL;
-- From here on in one transaction.
DROP INDEX synk.job_claim;


-- The key of a job, of its limit's name and what it has where the limit's path leads to: that as a text,
-- of a long one its hash. Jobs that have nothing there share the key that is the name alone.
CREATE FUNCTION synk.limit_key(name text, value text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value IS NULL THEN name
                WHEN char_length(value) <= 63 THEN name || ':' || value
                ELSE name || ':#' || left(encode(sha256(convert_to(value, 'UTF8')), 'hex'), 62) END
$$;


-- That one process of a supervisor may be at work for a key. As many slots as the limit says: the primary
-- key sees rivals that have not committed, which no count would.
CREATE TABLE synk.permit (
    key      varchar(127) COLLATE "C" NOT NULL,
    slot     integer NOT NULL CHECK (slot >= 0),
    owner    uuid NOT NULL,
    -- By which claim of the owner: what gives an earlier taking back, and comes late, is not about this.
    claim_seq bigint NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key, slot)
);
CREATE INDEX permit_owner ON synk.permit (owner);

-- What has begun of late of a key that has a rate: so many jobs until each of these times, in parts of a
-- period. It stands for nothing from "ends" on.
CREATE TABLE synk.rate (
    key     varchar(127) COLLATE "C" PRIMARY KEY,
    times   timestamptz[] NOT NULL DEFAULT '{}',
    numbers integer[] NOT NULL DEFAULT '{}',
    ends    timestamptz NOT NULL DEFAULT now()
);

-- Each row leaves dead versions behind, whatever the size of the table.
ALTER TABLE synk.permit SET (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000
);
ALTER TABLE synk.rate SET (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000
);


-- Lets up to so many jobs of a key begin, no more than its rate allows in any period up to this moment:
-- returns how many. Whoever comes while another one is at it gets none, and waits for nobody. What was
-- let through counts, whatever becomes of it.
--
-- Times are rounded up to a 64th of the period, so that a key never has more than 66 of them.
CREATE FUNCTION synk.let_begin(of_key text, wanted integer, most integer, period interval)
RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    part_s float8 := extract(epoch FROM period) / 64;
    moment timestamptz;
    part_ends timestamptz;
    kept record;
    granted integer;
BEGIN
    INSERT INTO synk.rate (key) VALUES (of_key) ON CONFLICT DO NOTHING;
    PERFORM FROM synk.rate AS r WHERE r.key = of_key FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    moment := clock_timestamp();
    part_ends := to_timestamp(ceil(extract(epoch FROM moment) / part_s) * part_s);
    -- A clock that was set back must not make them last for longer than a period.
    SELECT coalesce(array_agg(t.at ORDER BY t.at), '{}') AS times,
           coalesce(array_agg(t.number ORDER BY t.at), '{}') AS numbers,
           coalesce(sum(t.number), 0)::integer AS number
    INTO kept
    FROM (
        SELECT least(u.at, part_ends) AS at, sum(u.number)::integer AS number
        FROM synk.rate AS r CROSS JOIN unnest(r.times, r.numbers) AS u (at, number)
        WHERE r.key = of_key AND u.at > moment - period
        GROUP BY 1
    ) AS t;
    granted := least(wanted, greatest(0, most - kept.number));
    IF granted > 0 THEN
        UPDATE synk.rate AS r
        SET times = kept.times || part_ends, numbers = kept.numbers || granted,
            ends = part_ends + period
        WHERE r.key = of_key;
    END IF;
    RETURN granted;
END $$;


-- Says that permits are free again where jobs of their keys wait.
CREATE FUNCTION synk.permit_freed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
BEGIN
    PERFORM pg_notify('synk.job', q.queue)
    FROM (
        WITH RECURSIVE names (queue) AS (
            (SELECT j.queue FROM synk.job AS j
             WHERE j.state = 'available' AND j.limit_key IS NOT NULL ORDER BY j.queue LIMIT 1)
            UNION ALL
            SELECT (SELECT j.queue FROM synk.job AS j
                    WHERE j.state = 'available' AND j.limit_key IS NOT NULL AND j.queue > n.queue
                    ORDER BY j.queue LIMIT 1)
            FROM names AS n WHERE n.queue IS NOT NULL
        )
        SELECT n.queue FROM names AS n WHERE n.queue IS NOT NULL
    ) AS q
    WHERE EXISTS (
        SELECT FROM (SELECT DISTINCT f.key FROM freed AS f) AS f
        CROSS JOIN generate_series(1, 4) AS p (priority)
        CROSS JOIN LATERAL (
            SELECT FROM synk.job AS j
            WHERE j.state = 'available' AND j.limit_key IS NOT NULL
              AND j.queue = q.queue AND j.priority = p.priority AND j.limit_key = f.key
            LIMIT 1
        ) AS waiting
    );
    RETURN NULL;
END $$;

CREATE TRIGGER permit_freed AFTER DELETE ON synk.permit
    REFERENCING OLD TABLE AS freed
    FOR EACH STATEMENT EXECUTE FUNCTION synk.permit_freed();
