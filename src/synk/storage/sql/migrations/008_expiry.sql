-- Jobs that nobody wants any more after a time, and jobs that are kept longer or shorter than others.
ALTER TABLE synk.job
    -- It is cancelled, reason 'expired', if no attempt that counts has begun by then.
    ADD COLUMN start_before timestamptz,
    -- For so long after its end, in place of the cleaner's retention; a thousand years are for ever.
    ADD COLUMN keep interval;

-- When a job with one of these is to be looked at next, by a supervisor. A table of its own, and no index
-- of the jobs: claims and acknowledgements have nothing to do with it, and it is made in an instant. What
-- is not true any more does no harm: the job's own row decides.
CREATE TABLE synk.watched (
    id bigint PRIMARY KEY,
    at timestamptz NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 20000
);
CREATE INDEX watched_at ON synk.watched (at);


CREATE FUNCTION synk.job_watch() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rule text := CASE
        WHEN NEW.keep <= interval '0' THEN 'keep_is_above_zero'
        WHEN NEW.start_before < '0001-01-01 00:00:00+00'
            OR NEW.start_before >= '10000-01-01 00:00:00+00' THEN 'times_can_be_read' END;
BEGIN
    IF rule IS NOT NULL THEN
        RAISE EXCEPTION 'new row for relation "job" violates check constraint "%"', rule
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                  CONSTRAINT = rule;
    END IF;
    INSERT INTO synk.watched AS w (id, at)
    SELECT NEW.id, first.at
    FROM (SELECT least(NEW.start_before, CASE WHEN NEW.keep < interval '1000 years'
                       THEN now() + greatest(NEW.keep, interval '1 minute') END) AS at) AS first
    WHERE first.at IS NOT NULL
    ON CONFLICT (id) DO UPDATE SET at = least(w.at, excluded.at);
    RETURN NULL;
END $$;

CREATE TRIGGER job_watch AFTER INSERT OR UPDATE OF start_before, keep ON synk.job
    FOR EACH ROW WHEN (NEW.start_before IS NOT NULL OR NEW.keep IS NOT NULL)
    EXECUTE FUNCTION synk.job_watch();


-- As in 004 and 007. Who makes a job available when its time to begin is over wants it all the same.
CREATE OR REPLACE FUNCTION synk.retry(job_id bigint) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    target record;
    broken text;
BEGIN
    SELECT j.state, j.owner INTO target FROM synk.job AS j WHERE j.id = job_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'gone';
    ELSIF target.state IN ('available', 'pending') OR target.owner IS NOT NULL THEN
        RETURN 'refused';
    END IF;
    UPDATE synk.job AS j
    SET state = 'available', scheduled_at = clock_timestamp(), cancel_requested_at = NULL,
        result = NULL, duration_us = NULL, cpu_us = NULL, system_us = NULL, peak_rss_bytes = NULL,
        pid = NULL, crashes = 0, lost = 0, output = NULL, progress = NULL,
        start_before = CASE WHEN j.start_before > clock_timestamp() THEN j.start_before END
    WHERE j.id = job_id;
    RETURN CASE WHEN target.state = 'running' THEN 'taken' ELSE 'applied' END;
EXCEPTION
    WHEN SQLSTATE 'SY003' THEN
        RETURN 'blocked';
    WHEN SQLSTATE 'SY005' THEN
        RETURN 'not_unique';
    WHEN unique_violation THEN
        -- It came into the scope at this very moment.
        GET STACKED DIAGNOSTICS broken = CONSTRAINT_NAME;
        IF broken = 'job_unique_key' THEN
            RETURN 'not_unique';
        END IF;
        RAISE;
END $$;
