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
    DROP CONSTRAINT args_size,
    ADD CONSTRAINT state_is_consistent CHECK (
        (owner IS NULL) = (claim_seq IS NULL) AND (owner IS NULL OR state = 'running')
        AND (cancel_reason IS NOT NULL) = (state = 'cancelled')
        AND (finalized_at IS NOT NULL) = (cancel_reason IS NOT NULL OR state = 'completed')
    ),
    ADD CONSTRAINT attempts_are_in_bounds CHECK (
        attempt <= 2000000000 AND uncounted BETWEEN 0 AND attempt
        AND crashes BETWEEN 0 AND 1000000 AND lost BETWEEN 0 AND 1000000
        AND attempted_at >= '0001-01-01 00:00:00+00' AND attempted_at < '10000-01-01 00:00:00+00'
        AND finalized_at >= '0001-01-01 00:00:00+00' AND finalized_at < '10000-01-01 00:00:00+00'
        AND cancel_requested_at >= '0001-01-01 00:00:00+00'
        AND cancel_requested_at < '10000-01-01 00:00:00+00'
        AND array_ndims(errors) = 1 AND array_ndims(attempted_by) = 1
    );

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

CREATE FUNCTION synk.job_out_of_bounds() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rule text := CASE
        WHEN char_length(NEW.name) NOT BETWEEN 1 AND 127 THEN 'name_length'
        WHEN char_length(NEW.kind) NOT BETWEEN 1 AND 127 THEN 'kind_length'
        WHEN char_length(NEW.queue) NOT BETWEEN 1 AND 127 THEN 'queue_length'
        WHEN char_length(NEW.idempotency_key) NOT BETWEEN 1 AND 255 THEN 'idempotency_key_length'
        WHEN NEW.priority NOT BETWEEN 1 AND 4 THEN 'priority_in_range'
        WHEN NEW.max_attempts < 1 THEN 'max_attempts_is_positive'
        WHEN pg_column_size(NEW.args) > 8388608 THEN 'args_size'
        WHEN jsonb_typeof(NEW.meta) <> 'object' OR pg_column_size(NEW.meta) > 65536
            THEN 'meta_is_a_small_object'
        WHEN array_ndims(NEW.tags) > 1 OR cardinality(NEW.tags) > 100
            OR array_position(NEW.tags, NULL) IS NOT NULL OR pg_column_size(NEW.tags) > 16384
            THEN 'tags_are_few'
        ELSE 'times_can_be_read' END;
BEGIN
    RAISE EXCEPTION 'new row for relation "job" violates check constraint "%"', rule
        USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
              CONSTRAINT = rule;
END $$;

CREATE TRIGGER zz_job_bounds BEFORE INSERT OR UPDATE OF
    name, kind, queue, idempotency_key, priority, max_attempts, args, meta, tags, created_at, scheduled_at
    ON synk.job FOR EACH ROW
    WHEN (char_length(NEW.name) NOT BETWEEN 1 AND 127
          OR char_length(NEW.kind) NOT BETWEEN 1 AND 127
          OR char_length(NEW.queue) NOT BETWEEN 1 AND 127
          OR char_length(NEW.idempotency_key) NOT BETWEEN 1 AND 255
          OR NEW.priority NOT BETWEEN 1 AND 4
          OR NEW.max_attempts < 1
          OR pg_column_size(NEW.args) > 8388608
          OR jsonb_typeof(NEW.meta) <> 'object' OR pg_column_size(NEW.meta) > 65536
          OR array_ndims(NEW.tags) > 1 OR cardinality(NEW.tags) > 100
          OR array_position(NEW.tags, NULL) IS NOT NULL OR pg_column_size(NEW.tags) > 16384
          OR NEW.created_at < '0001-01-01 00:00:00+00' OR NEW.created_at >= '10000-01-01 00:00:00+00'
          OR NEW.scheduled_at < '0001-01-01 00:00:00+00'
          OR NEW.scheduled_at >= '10000-01-01 00:00:00+00')
    EXECUTE FUNCTION synk.job_out_of_bounds();

ALTER TABLE synk.client ADD COLUMN revision bigint NOT NULL DEFAULT 0;

DELETE FROM synk.migration WHERE version > 0;
INSERT INTO synk.migration (version, name) VALUES
    (1, 'jobs'), (2, 'dependencies'), (3, 'completed'), (4, 'supervisors');
