-- What a row may hold, whoever writes it: what no reader could read and no statement could count
-- further is refused, since one such row would stand in the way of all others of its queue.

-- What synk's own claims and acknowledgements change, too. Each CHECK is made ready once a statement and
-- evaluated once a row, whatever changes: fifteen were a fifth of a claim of one job.
ALTER TABLE synk.job
    ADD CONSTRAINT state_is_consistent CHECK (
        (owner IS NULL) = (claim_seq IS NULL) AND (owner IS NULL OR state = 'running')
        AND (cancel_reason IS NOT NULL) = (state = 'cancelled')
        AND (finalized_at IS NOT NULL) = (cancel_reason IS NOT NULL OR state = 'completed')
    ),
    -- The times are those that Python has. An array of arrays takes no further element.
    ADD CONSTRAINT attempts_are_in_bounds CHECK (
        attempt <= 2000000000 AND uncounted BETWEEN 0 AND attempt
        AND crashes BETWEEN 0 AND 1000000 AND lost BETWEEN 0 AND 1000000
        AND attempted_at >= '0001-01-01 00:00:00+00' AND attempted_at < '10000-01-01 00:00:00+00'
        AND finalized_at >= '0001-01-01 00:00:00+00' AND finalized_at < '10000-01-01 00:00:00+00'
        AND cancel_requested_at >= '0001-01-01 00:00:00+00'
        AND cancel_requested_at < '10000-01-01 00:00:00+00'
        AND array_ndims(errors) = 1 AND array_ndims(attempted_by) = 1
    );


-- What is said of a job when it is inserted, depends_on apart, at which job_before_insert looks. Sizes
-- are those of PostgreSQL's own form, in which the largest arguments that a client lets through are
-- some 6 MiB.
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

-- By its name behind the others: triggers of the user's may change these.
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
