-- Where migrations are noted. Applied first, and harmless to repeat. A schema that is there already
-- is somebody's, whose rights are left alone; row 0 says of another that synk made it.
DO $$
DECLARE
    is_new boolean := to_regnamespace('synk') IS NULL;
BEGIN
    IF is_new THEN
        CREATE SCHEMA synk;
    END IF;
    IF to_regclass('synk.migration') IS NULL THEN
        CREATE TABLE synk.migration (
            version    integer PRIMARY KEY,
            name       text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        );
    END IF;
    IF is_new THEN
        INSERT INTO synk.migration (version, name) VALUES (0, 'schema');
    END IF;
END $$;
