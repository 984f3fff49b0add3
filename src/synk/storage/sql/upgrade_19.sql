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

ALTER TABLE synk.job
    DROP COLUMN waiting_on,
    ADD COLUMN meta jsonb,
    ADD COLUMN tags text[];
DROP TABLE synk.cleaned;

CREATE FUNCTION synk.job_refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'new row for relation "job" violates check constraint "%"', TG_ARGV[0]
        USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
              CONSTRAINT = TG_ARGV[0];
END $$;

CREATE TRIGGER meta_is_a_small_object BEFORE INSERT OR UPDATE OF meta ON synk.job
    FOR EACH ROW
    WHEN (jsonb_typeof(NEW.meta) <> 'object' OR pg_column_size(NEW.meta) > 65536)
    EXECUTE FUNCTION synk.job_refuse('meta_is_a_small_object');

CREATE TRIGGER tags_are_few BEFORE INSERT OR UPDATE OF tags ON synk.job
    FOR EACH ROW
    WHEN (array_ndims(NEW.tags) > 1 OR cardinality(NEW.tags) > 100
          OR array_position(NEW.tags, NULL) IS NOT NULL OR pg_column_size(NEW.tags) > 16384)
    EXECUTE FUNCTION synk.job_refuse('tags_are_few');

ALTER TABLE synk.client ADD COLUMN revision bigint NOT NULL DEFAULT 0;

DELETE FROM synk.migration WHERE version > 0;
INSERT INTO synk.migration (version, name) VALUES
    (1, 'jobs'), (2, 'dependencies'), (3, 'completed'), (4, 'supervisors');
