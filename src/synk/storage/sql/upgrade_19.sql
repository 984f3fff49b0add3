-- Makes version 4 of the last schema that synk had before its first one, version 19. `synk migrate` runs
-- this once, and `synk migrate --sql` prints it. Supervisors of before know no other schema: none may run.
LOCK TABLE synk.job, synk.client IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM synk.client AS c
               WHERE c.lease_until > now() AND c.stopped_at IS NULL AND c.dead_at IS NULL) THEN
        RAISE EXCEPTION 'supervisors run on this schema, which is of before the first one: stop them'
            USING ERRCODE = 'SY003';
    END IF;
END $$;

ALTER TYPE synk.cancel_reason ADD VALUE 'expired';
ALTER TYPE synk.cancel_reason ADD VALUE 'handler';

DROP TABLE synk.cleaned;
ALTER TABLE synk.job
    DROP COLUMN waiting_on,
    ADD COLUMN meta jsonb,
    ADD COLUMN tags text[],
    DROP CONSTRAINT attempt_is_not_negative,
    DROP CONSTRAINT max_attempts_is_positive,
    DROP CONSTRAINT priority_in_range,
    DROP CONSTRAINT name_length,
    DROP CONSTRAINT kind_length,
    DROP CONSTRAINT queue_length,
    DROP CONSTRAINT idempotency_key_length,
    DROP CONSTRAINT finalized_at_when_final,
    DROP CONSTRAINT owner_when_running,
    DROP CONSTRAINT cancel_reason_when_cancelled,
    DROP CONSTRAINT times_can_be_read,
    DROP CONSTRAINT ends_can_be_read,
    DROP CONSTRAINT counts_leave_room,
    DROP CONSTRAINT lists_are_flat,
    DROP CONSTRAINT args_size;

CREATE OR REPLACE FUNCTION synk.job_before_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.depends_on := coalesce(NEW.depends_on, '{}');
    IF array_ndims(NEW.depends_on) > 1 THEN
        RAISE EXCEPTION 'depends_on of job "%" is an array of arrays', NEW.name
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                  CONSTRAINT = 'depends_on_is_flat';
    ELSIF NEW.state = 'running' AND NEW.owner IS NULL THEN
        RAISE EXCEPTION 'job "%" cannot begin as running (state_is_consistent)', NEW.name
            USING ERRCODE = 'check_violation';
    ELSIF NEW.state IN ('running', 'completed', 'cancelled') THEN
        RETURN NEW;
    END IF;

    -- "Available" means now; a second is how far the clocks of producers may be ahead.
    IF NEW.state = 'available' AND NEW.scheduled_at <= clock_timestamp() + interval '1 second' THEN
        NEW.scheduled_at := least(NEW.scheduled_at, clock_timestamp());
    ELSIF NEW.state = 'pending' THEN
        NEW.held := true;
    END IF;

    IF NEW.depends_on <> '{}' THEN
        -- Checked and tied at the end of the statement (job_depends), settled at the end of the
        -- transaction, with the dependencies locked.
        NEW.state := 'pending';
        IF cardinality(NEW.depends_on) = 1 THEN
            NEW.unmet := 1;
        ELSE
            NEW.unmet := (SELECT count(DISTINCT d.id) FROM unnest(NEW.depends_on) AS d (id));
        END IF;
    ELSIF NOT NEW.held THEN
        NEW.state := CASE WHEN NEW.scheduled_at > clock_timestamp() THEN 'scheduled'
                          ELSE 'available' END;
    END IF;
    RETURN NEW;
END $$;

CREATE INDEX job_held ON synk.job (id) WHERE held;
ALTER TABLE synk.job SET (fillfactor = 90);
ALTER TABLE synk.client ADD COLUMN revision bigint NOT NULL DEFAULT 0;

DELETE FROM synk.migration WHERE version > 0;
INSERT INTO synk.migration (version, name) VALUES
    (1, 'jobs'), (2, 'dependencies'), (3, 'completed'), (4, 'supervisors');
