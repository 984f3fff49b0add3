-- When a job is due is asked of the clock, not of the start of the transaction that inserts it; and what
-- no reader could read is refused in the columns and arrays that had no bounds yet.

-- Puts a new row into the state that its columns mean. The common row (available, due, without
-- dependencies) never gets here.
CREATE OR REPLACE FUNCTION synk.job_before_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.depends_on := coalesce(NEW.depends_on, '{}');
    IF NEW.state IN ('running', 'completed', 'cancelled') THEN
        RETURN NEW;
    END IF;

    -- "Available" means now; a second is how far the clocks of producers may be ahead.
    IF NEW.state = 'available' AND NEW.scheduled_at <= clock_timestamp() + interval '1 second' THEN
        NEW.scheduled_at := least(NEW.scheduled_at, clock_timestamp());
    ELSIF NEW.state = 'pending' THEN
        NEW.held := true;
    END IF;

    IF NEW.depends_on <> '{}' THEN
        -- Checked at the end of the statement (job_depends), settled at the end of the transaction
        -- (job_link), with the dependencies locked.
        NEW.state := 'pending';
        NEW.waiting_on := NEW.depends_on;
    ELSIF NOT NEW.held THEN
        NEW.state := CASE WHEN NEW.scheduled_at > clock_timestamp() THEN 'scheduled'
                          ELSE 'available' END;
    END IF;
    RETURN NEW;
END $$;


-- Jobs are completed: what waits for them waits for the others only, or goes.
CREATE OR REPLACE FUNCTION synk.job_release(ended bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    arrived record;
BEGIN
    FOR arrived IN
        -- waiting_on <> '{}' is what lets the planner use job_waiting, which is partial by it.
        WITH waiting AS MATERIALIZED (
            SELECT j.id FROM synk.job AS j
            WHERE j.waiting_on && ended AND j.waiting_on <> '{}' AND j.state = 'pending'
            ORDER BY j.id FOR NO KEY UPDATE
        ), released AS (
            UPDATE synk.job AS j
            SET waiting_on = ARRAY(SELECT w.id FROM unnest(j.waiting_on) AS w (id)
                                   WHERE w.id <> ALL (ended)),
                state = CASE WHEN j.held OR NOT j.waiting_on <@ ended THEN j.state
                             WHEN j.scheduled_at > clock_timestamp() THEN 'scheduled'
                             ELSE 'available' END
            FROM waiting WHERE j.id = waiting.id AND j.state = 'pending'
            RETURNING j.state, j.queue
        )
        SELECT DISTINCT r.queue FROM released AS r WHERE r.state = 'available'
    LOOP
        PERFORM pg_notify('synk.job', arrived.queue);
    END LOOP;
END $$;


-- Rows that are there already and could not be read; few, if any.
UPDATE synk.job AS j SET finalized_at = j.created_at
WHERE NOT (j.finalized_at >= '0001-01-01 00:00:00+00' AND j.finalized_at < '10000-01-01 00:00:00+00');
UPDATE synk.job AS j SET cancel_requested_at = j.created_at
WHERE NOT (j.cancel_requested_at >= '0001-01-01 00:00:00+00'
           AND j.cancel_requested_at < '10000-01-01 00:00:00+00');
UPDATE synk.job AS j
SET errors = ARRAY(SELECT unnest(j.errors)), attempted_by = ARRAY(SELECT unnest(j.attempted_by))
WHERE NOT (array_ndims(j.errors) = 1 AND array_ndims(j.attempted_by) = 1);

-- For what is written from now on: nobody has to wait until the whole table is looked through.
ALTER TABLE synk.job
    ADD CONSTRAINT ends_can_be_read CHECK (
        finalized_at >= '0001-01-01 00:00:00+00' AND finalized_at < '10000-01-01 00:00:00+00'
        AND cancel_requested_at >= '0001-01-01 00:00:00+00'
        AND cancel_requested_at < '10000-01-01 00:00:00+00'
    ) NOT VALID,
    -- An array of arrays takes no further element.
    ADD CONSTRAINT lists_are_flat CHECK (
        array_ndims(errors) = 1 AND array_ndims(attempted_by) = 1 AND array_ndims(depends_on) = 1
    ) NOT VALID;
