-- What is set while supervisors run: for a queue, a kind, all of them. No claim and no insert reads it.
-- A supervisor reads it all when its heartbeat brings a revision that it does not know.
CREATE TABLE synk.setting (
    scope      text NOT NULL,
    name       text NOT NULL,
    value      jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, name),
    CONSTRAINT setting_is_small CHECK (
        char_length(scope) BETWEEN 1 AND 255 AND char_length(name) BETWEEN 1 AND 127
        AND pg_column_size(value) <= 65536)
);

-- One row: the number of changes of settings so far. Whoever changes a setting holds it until the
-- commit, so that who has seen a number has seen all that came before.
CREATE TABLE synk.revision (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    number   bigint NOT NULL DEFAULT 0
);
INSERT INTO synk.revision DEFAULT VALUES;

CREATE FUNCTION synk.setting_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE synk.revision SET number = number + 1;
    RETURN NULL;
END $$;

CREATE TRIGGER setting_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON synk.setting
    FOR EACH STATEMENT EXECUTE FUNCTION synk.setting_changed();
