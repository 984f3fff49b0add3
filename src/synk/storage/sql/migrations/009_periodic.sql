-- Jobs that come again and again: what is said of each, and how far it is.
--
-- A supervisor that finds a tick due computes the next one, and swaps the one for the other if nobody
-- has done so before: the row's version and next_at name what it has computed with. The job of the
-- tick is inserted by the same statement. So nobody holds a row while it computes, and one that
-- stands still holds up nobody.
--
-- Whoever changes a row, by whatever means: ticks of an expression that has changed, or was resumed,
-- count from that moment on (since), and a supervisor computes the first one (next_at is NULL).

CREATE TABLE synk.periodic (
    name         text PRIMARY KEY,
    since        timestamptz NOT NULL DEFAULT now(),
    next_at      timestamptz,
    last_at      timestamptz,
    paused_at    timestamptz,
    -- Never comes again: a row that was removed and made anew is another one.
    version      bigint NOT NULL DEFAULT 0,
    last_job_id  bigint,
    runs         bigint NOT NULL DEFAULT 0,
    skipped      bigint NOT NULL DEFAULT 0,

    -- When it ticks.
    cron         text,
    every        interval,
    tz           text NOT NULL DEFAULT 'UTC',
    missed       text NOT NULL DEFAULT 'one',
    max_late     interval,
    jitter       interval NOT NULL DEFAULT '0',
    overlap      text NOT NULL DEFAULT 'skip',

    -- The job of each tick.
    kind         text NOT NULL,
    args         jsonb NOT NULL DEFAULT '{}',
    queue        text NOT NULL DEFAULT 'default',
    priority     smallint NOT NULL DEFAULT 3,
    max_attempts integer NOT NULL DEFAULT 7,
    tags         text[],
    meta         jsonb,
    -- A job that has not begun so long after it was due is cancelled.
    start_within interval,
    keep         interval,
    -- Of the limit that they have, by which each gets its key; NULL: none.
    limit_name   text,
    limit_path   text[] NOT NULL DEFAULT '{}',

    -- Of what was declared last, and by which supervisors; NULL: by none, but by hand.
    hash         text,
    declared_by  uuid[],

    CONSTRAINT periodic_has_ticks CHECK (
        (cron IS NULL) <> (every IS NULL) AND char_length(cron) <= 255
        AND char_length(tz) BETWEEN 1 AND 127
        AND every BETWEEN '1 second' AND '3660 days'
        AND max_late BETWEEN '1 second' AND '3660 days' AND jitter BETWEEN '0' AND '1 day'
        AND missed IN ('one', 'all', 'none') AND overlap IN ('skip', 'allow')
        AND (missed <> 'all' OR overlap = 'allow')
        AND next_at >= '0001-01-02 00:00:00+00' AND next_at < '9999-01-01 00:00:00+00'
        AND last_at >= '0001-01-02 00:00:00+00' AND last_at < '9999-01-01 00:00:00+00'
        AND paused_at >= '0001-01-02 00:00:00+00' AND paused_at < '9999-01-01 00:00:00+00'
    ),
    -- What the table of jobs would refuse is refused here.
    CONSTRAINT periodic_has_jobs CHECK (
        char_length(name) BETWEEN 1 AND 127 AND char_length(kind) BETWEEN 1 AND 127
        AND char_length(queue) BETWEEN 1 AND 127 AND priority BETWEEN 1 AND 4
        AND max_attempts BETWEEN 1 AND 1000001
        AND pg_column_size(args) <= 8388608
        AND jsonb_typeof(meta) = 'object' AND pg_column_size(meta) <= 65536
        AND array_ndims(tags) = 1 AND cardinality(tags) <= 100
        AND array_position(tags, NULL) IS NULL AND pg_column_size(tags) <= 16384
        AND start_within BETWEEN '1 second' AND '1000 years' AND keep > '0'
        AND char_length(limit_name) BETWEEN 1 AND 127 AND pg_column_size(limit_path) <= 16384
        AND array_position(limit_path, NULL) IS NULL
    )
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 200
);


-- A row is new, or says something else than before. Its version is the number of changes of settings
-- so far, by which supervisors hear of it.
CREATE FUNCTION synk.periodic_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE synk.revision AS r SET number = r.number + 1 RETURNING r.number INTO NEW.version;
    IF TG_OP = 'UPDATE' THEN
        IF NEW.paused_at IS NOT NULL THEN
            NEW.paused_at := coalesce(OLD.paused_at, NEW.paused_at);
        END IF;
    END IF;
    IF TG_OP = 'INSERT'
        OR (NEW.cron, NEW.every, NEW.tz) IS DISTINCT FROM (OLD.cron, OLD.every, OLD.tz)
        OR OLD.paused_at IS NOT NULL AND NEW.paused_at IS NULL
    THEN
        NEW.since := date_trunc('second', clock_timestamp());
        NEW.next_at := NULL;
    END IF;
    PERFORM pg_notify('synk.setting', '');
    RETURN NEW;
END $$;

CREATE TRIGGER periodic_made BEFORE INSERT ON synk.periodic
    FOR EACH ROW EXECUTE FUNCTION synk.periodic_changed();

-- A tick changes none of these.
CREATE TRIGGER periodic_changed BEFORE UPDATE ON synk.periodic
    FOR EACH ROW
    WHEN ((NEW.name, NEW.cron, NEW.every, NEW.tz, NEW.missed, NEW.max_late, NEW.jitter, NEW.overlap,
           NEW.kind, NEW.args, NEW.queue, NEW.priority, NEW.max_attempts, NEW.tags, NEW.meta,
           NEW.start_within, NEW.keep, NEW.limit_name, NEW.limit_path, NEW.paused_at)
          IS DISTINCT FROM
          (OLD.name, OLD.cron, OLD.every, OLD.tz, OLD.missed, OLD.max_late, OLD.jitter, OLD.overlap,
           OLD.kind, OLD.args, OLD.queue, OLD.priority, OLD.max_attempts, OLD.tags, OLD.meta,
           OLD.start_within, OLD.keep, OLD.limit_name, OLD.limit_path, OLD.paused_at))
    EXECUTE FUNCTION synk.periodic_changed();
