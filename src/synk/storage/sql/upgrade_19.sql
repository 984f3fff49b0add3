-- Makes the first schema of the last one that synk had before it, version 19. `synk migrate` runs this
-- once, and `synk migrate --sql` prints it. Supervisors of before know no other schema: none may run.
LOCK TABLE synk.job, synk.client IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM synk.client AS c
               WHERE c.lease_until > now() AND c.stopped_at IS NULL AND c.dead_at IS NULL) THEN
        RAISE EXCEPTION 'supervisors run on this schema, which is of before the first one: stop them'
            USING ERRCODE = 'SY003';
    END IF;
END $$;

ALTER TABLE synk.job DROP COLUMN waiting_on;
DROP TABLE synk.cleaned;

DELETE FROM synk.migration WHERE version > 0;
INSERT INTO synk.migration (version, name) VALUES
    (1, 'jobs'), (2, 'dependencies'), (3, 'completed'), (4, 'supervisors');
