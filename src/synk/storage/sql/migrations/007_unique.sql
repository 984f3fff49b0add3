-- Unique jobs: in one scope there is at most one job at a time, whoever inserts it.
--
-- A job says in unique_scope what it is unique by, and for how long:
-- {"by": ["args.tenant", "queue"], "until": "started", "period": 3600}. A writer gives that and nothing
-- else: the table computes the key, and takes it away when the job leaves its scope. No state is in the
-- index, so that no change of a job can meet another one there. What has left its scope is in it again
-- only if it begins anew when it was over, which is refused where another job is in it by then.
ALTER TABLE synk.job
    -- Of the scope that it is in; NULL: in none.
    ADD COLUMN IF NOT EXISTS unique_key bytea,
    ADD COLUMN IF NOT EXISTS unique_scope jsonb;

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS job_unique_key ON synk.job (unique_key)
    WHERE unique_key IS NOT NULL;

-- From here on in one transaction.

-- The rows have become wider: of a small table the planner takes fewer of them to be there, and would
-- rather read all of it once for a join, and keep that, than look each up. Such a plan outlives the
-- small table.
ALTER FUNCTION synk.job_depends() SET enable_material = off;
ALTER FUNCTION synk.job_settle(bigint[]) SET enable_material = off;
ALTER FUNCTION synk.job_tie_anew(bigint, bigint[]) SET enable_material = off;
ALTER FUNCTION synk.job_after_delete() SET enable_material = off;
ALTER FUNCTION synk.job_note_completed(bigint[]) SET enable_material = off;


-- The scope of a job that is scheduled for that time: with the beginning of its period, in seconds since
-- 1970.
CREATE FUNCTION synk.unique_scope(scope jsonb, at timestamp with time zone) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN scope ? 'period' THEN scope || jsonb_build_object(
        'begins', extract(epoch FROM at) - mod(
            mod(extract(epoch FROM at), (scope ->> 'period')::numeric) + (scope ->> 'period')::numeric,
            (scope ->> 'period')::numeric))
    ELSE scope END
$$;

-- The key of a job in its scope, which its kind is always part of. Of JSON, so that no order of anything
-- matters. A field that is not there is null; a number is as it is written, 1 is not 1.0.
CREATE FUNCTION synk.unique_key(job_kind text, job_queue text, job_args jsonb, scope jsonb)
RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    job jsonb := jsonb_build_object('queue', job_queue, 'args', job_args);
    chosen jsonb := scope - '{by,until}'::text[] || jsonb_build_object('kind', job_kind);
    part text := scope -> 'by' ->> 0;
    n integer := 0;
BEGIN
    WHILE part IS NOT NULL LOOP
        chosen := chosen || jsonb_build_object(part, job #> string_to_array(part, '.'));
        n := n + 1;
        part := scope -> 'by' ->> n;
    END LOOP;
    RETURN sha256(convert_to(chosen::text, 'UTF8'));
END $$;


-- What writes a scope alone has its key computed here. synk's own inserts bring it along.
CREATE FUNCTION synk.job_enter_scope() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given jsonb := NEW.unique_scope;
    problem text;
BEGIN
    problem := CASE
        WHEN given IS NULL THEN 'is missing, and there is a unique_key'
        WHEN jsonb_typeof(given) <> 'object' THEN 'must be an object'
        WHEN given - '{by,until,period,begins}'::text[] <> '{}'
            THEN 'knows "by", "until" and "period" only'
        WHEN jsonb_typeof(given -> 'by') IS DISTINCT FROM 'array' THEN 'needs a list in "by"'
        WHEN (SELECT bool_or(b.part IS NULL OR b.part !~ '^(queue|args(\.[^.]+)*)$')
              FROM jsonb_array_elements_text(given -> 'by') AS b (part))
            THEN 'takes "queue", "args" and "args.<field>" in "by"'
        WHEN given ->> 'until' NOT IN ('started', 'finished')
            THEN 'takes "started" or "finished" in "until"'
        WHEN given ? 'period' AND jsonb_typeof(given -> 'period') <> 'number'
            THEN 'needs a number of seconds in "period"'
        WHEN (given ->> 'period')::numeric <= 0 THEN 'needs seconds above 0 in "period"'
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'unique_scope % %', given, problem
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                  CONSTRAINT = 'unique_scope_can_be_read';
    END IF;
    NEW.unique_scope := synk.unique_scope('{"until": "started"}' || given, NEW.scheduled_at);
    IF NEW.state NOT IN ('completed', 'cancelled')
        AND (NEW.state <> 'running' OR NEW.unique_scope ->> 'until' = 'finished')
    THEN
        NEW.unique_key := synk.unique_key(NEW.kind, NEW.queue, NEW.args, NEW.unique_scope);
    END IF;
    RETURN NEW;
END $$;

-- By its name the last one: triggers of others may change the arguments.
CREATE TRIGGER zz_job_unique BEFORE INSERT ON synk.job
    FOR EACH ROW WHEN ((NEW.unique_scope IS NULL) <> (NEW.unique_key IS NULL))
    EXECUTE FUNCTION synk.job_enter_scope();


-- A job leaves its scope when it is claimed, or, until it is finished, when it is over.
CREATE FUNCTION synk.job_change_scope() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    other bigint;
BEGIN
    IF OLD.state NOT IN ('completed', 'cancelled') THEN
        IF NEW.state IN ('completed', 'cancelled')
            OR NEW.state = 'running' AND NEW.unique_scope ->> 'until' = 'started'
        THEN
            NEW.unique_key := NULL;
        END IF;
        RETURN NEW;
    END IF;
    NEW.unique_key := synk.unique_key(NEW.kind, NEW.queue, NEW.args, NEW.unique_scope);
    SELECT j.id INTO other FROM synk.job AS j WHERE j.unique_key = NEW.unique_key;
    IF FOUND THEN
        RAISE EXCEPTION 'job % cannot begin anew: job % is in its unique scope', OLD.id, other
            USING ERRCODE = 'SY005', DETAIL = other;
    END IF;
    RETURN NEW;
END $$;

-- By its name behind the one that says what the state really becomes.
CREATE TRIGGER job_change_scope BEFORE UPDATE OF state ON synk.job
    FOR EACH ROW
    WHEN (NEW.unique_scope IS NOT NULL AND NEW.state <> OLD.state
          AND (OLD.unique_key IS NOT NULL
               OR OLD.state IN ('completed', 'cancelled')
                  AND NEW.state NOT IN ('completed', 'cancelled')))
    EXECUTE FUNCTION synk.job_change_scope();


-- Puts new arguments (with the key of their limit, see 010), time and priority into the job that waits in a scope. NULL if it is free by now.
CREATE FUNCTION synk.unique_replace(
    job_kind text, job_queue text, job_args jsonb, scope jsonb, at timestamp with time zone,
    job_priority smallint, job_limit_key text
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    target record;
BEGIN
    SELECT j.id, j.state INTO target FROM synk.job AS j
    WHERE j.unique_key = synk.unique_key(job_kind, job_queue, job_args, scope)
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF target.state = 'running' THEN
        RAISE EXCEPTION 'job % is in its unique scope until it is finished, and runs: it cannot be replaced',
            target.id USING ERRCODE = 'SY005', DETAIL = target.id;
    END IF;
    UPDATE synk.job AS j
    SET args = job_args, limit_key = job_limit_key, scheduled_at = at, priority = job_priority,
        state = CASE WHEN target.state = 'pending' THEN 'pending'
                     WHEN at > clock_timestamp() THEN 'scheduled'
                     ELSE 'available' END::synk.job_state
    WHERE j.id = target.id;
    RETURN target.id;
END $$;


-- What a job is unique by is what it was inserted with.
CREATE FUNCTION synk.job_scope_is_fixed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'unique_scope of job % cannot be changed after its insert', OLD.id
        USING ERRCODE = 'SY002';
END $$;

CREATE TRIGGER job_scope_is_fixed BEFORE UPDATE OF unique_scope ON synk.job
    FOR EACH ROW WHEN (NEW.unique_scope IS DISTINCT FROM OLD.unique_scope)
    EXECUTE FUNCTION synk.job_scope_is_fixed();


-- As in 004, but for 'not_unique': another job is in the unique scope of one that was over.
CREATE OR REPLACE FUNCTION synk.retry(job_id bigint) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    target record;
    broken text;
BEGIN
    SELECT j.state, j.owner INTO target FROM synk.job AS j WHERE j.id = job_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'gone';
    ELSIF target.state IN ('available', 'pending') OR target.owner IS NOT NULL THEN
        RETURN 'refused';
    END IF;
    UPDATE synk.job AS j
    SET state = 'available', scheduled_at = clock_timestamp(), cancel_requested_at = NULL,
        result = NULL, duration_us = NULL, cpu_us = NULL, system_us = NULL, peak_rss_bytes = NULL,
        pid = NULL, crashes = 0, lost = 0, output = NULL, progress = NULL
    WHERE j.id = job_id;
    RETURN CASE WHEN target.state = 'running' THEN 'taken' ELSE 'applied' END;
EXCEPTION
    WHEN SQLSTATE 'SY003' THEN
        RETURN 'blocked';
    WHEN SQLSTATE 'SY005' THEN
        RETURN 'not_unique';
    WHEN unique_violation THEN
        -- It came into the scope at this very moment.
        GET STACKED DIAGNOSTICS broken = CONSTRAINT_NAME;
        IF broken = 'job_unique_key' THEN
            RETURN 'not_unique';
        END IF;
        RAISE;
END $$;
