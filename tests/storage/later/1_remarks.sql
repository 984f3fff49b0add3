-- Needs every lock that there is, and looks through no table.
ALTER TABLE synk.job
    ADD COLUMN remark text,
    ADD CONSTRAINT remark_length CHECK (char_length(remark) < 100) NOT VALID;
ALTER TABLE synk.client ADD COLUMN remark text;

CREATE FUNCTION synk.remarked() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.remark := 'new';
    RETURN NEW;
END $$;
CREATE TRIGGER job_remarked BEFORE INSERT ON synk.job
    FOR EACH ROW WHEN (NEW.kind = 'remarkable') EXECUTE FUNCTION synk.remarked();
