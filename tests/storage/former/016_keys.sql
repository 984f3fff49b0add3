-- A key is of one job: whoever inserts a job of another kind, or with other arguments, under the same key
-- is told. synk finds the job of a key by ON CONFLICT DO UPDATE, where a trigger sees only the row that is
-- there. So what was to be inserted is noted just before, in a setting of the transaction: the key, a hash
-- of the arguments, for which order and 1 or 1.0 do not matter, and the kind.

CREATE FUNCTION synk.job_note_key() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    noted text;
BEGIN
    -- An assignment: a third of what PERFORM takes.
    noted := set_config('synk_key.given', concat(
        char_length(NEW.idempotency_key), ' ', NEW.idempotency_key, ' ',
        jsonb_hash_extended(NEW.args, 0), ' ', NEW.kind), true);
    RETURN NEW;
END $$;

-- By its name the last one: triggers of others may change the arguments.
CREATE TRIGGER zz_job_note_key BEFORE INSERT ON synk.job
    FOR EACH ROW WHEN (NEW.idempotency_key IS NOT NULL)
    EXECUTE FUNCTION synk.job_note_key();


CREATE FUNCTION synk.job_check_key() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given text := current_setting('synk_key.given', true);
    own_key text := concat(char_length(OLD.idempotency_key), ' ', OLD.idempotency_key, ' ');
    other text;
    is_kind boolean;
BEGIN
    IF starts_with(given, own_key)
        AND given <> concat(own_key, jsonb_hash_extended(OLD.args, 0), ' ', OLD.kind)
    THEN
        other := substr(given, char_length(own_key) + 1);
        is_kind := substr(other, strpos(other, ' ') + 1) <> OLD.kind;
        RAISE EXCEPTION 'idempotency key "%" is that of job %, which %', OLD.idempotency_key, OLD.id,
            CASE WHEN is_kind THEN 'is of another kind' ELSE 'has other arguments' END
            USING ERRCODE = 'SY004', DETAIL = jsonb_build_object(
                'key', OLD.idempotency_key, 'job_id', OLD.id, 'is_kind', is_kind)::text;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER job_check_key BEFORE UPDATE OF idempotency_key ON synk.job
    FOR EACH ROW WHEN (NEW.idempotency_key = OLD.idempotency_key)
    EXECUTE FUNCTION synk.job_check_key();
