-- Other writers (psql, triggers, the client and the worker of the Go package) change the state of a job
-- by plain SQL, and know only the original's columns. They mean what they say: the table fills in what
-- follows. synk's own claims and acknowledgements change the owner too, and never get there.
--
-- Final states are left by a retry only; attempts are numbered on; who waits for others goes on waiting.

-- A job that runs elsewhere (a worker of the Go package) has no owner, and no lease to lose.
ALTER TABLE synk.job
    DROP CONSTRAINT owner_when_running,
    ADD CONSTRAINT owner_when_running CHECK (
        (owner IS NULL) = (claim_seq IS NULL) AND (owner IS NULL OR state = 'running')
    ) NOT VALID;

CREATE OR REPLACE FUNCTION synk.job_before_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.depends_on := coalesce(NEW.depends_on, '{}');
    IF NEW.state = 'running' AND NEW.owner IS NULL THEN
        RAISE EXCEPTION 'job "%" cannot begin as running (owner_when_running)', NEW.name
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
        -- Checked at the end of the statement (job_depends), settled at the end of the transaction
        -- (job_link), with the dependencies locked.
        NEW.state := 'pending';
        NEW.waiting_on := NEW.depends_on;
    ELSIF NOT NEW.held THEN
        NEW.state := CASE WHEN NEW.scheduled_at > clock_timestamp() THEN 'scheduled'
                          ELSE 'available' END;
    END IF;
    RETURN NEW;
END $$;


-- Says which dependencies of a job that begins anew are not completed, with all of them locked, and
-- makes their ends look for it. Refuses it if one can no longer complete.
CREATE FUNCTION synk.job_unmet(job_id bigint, dependencies bigint[]) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    lost record;
BEGIN
    PERFORM FROM synk.job AS j WHERE j.id = ANY (dependencies) ORDER BY j.id FOR NO KEY UPDATE;

    SELECT d.id, j.state INTO lost
    FROM unnest(dependencies) AS d (id)
    LEFT JOIN synk.job AS j ON j.id = d.id
    CROSS JOIN (SELECT c.cleaned_up_to FROM synk.cleaned AS c WHERE c.only_row) AS c
    WHERE coalesce(j.state = 'cancelled', d.id > c.cleaned_up_to)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'job % depends on %, which %', job_id, lost.id,
            CASE WHEN lost.state IS NULL THEN 'is gone and never completed'
                 ELSE 'is cancelled: make that available first' END
            USING ERRCODE = 'SY003', DETAIL = lost.id::text;
    END IF;

    UPDATE synk.job AS j SET has_dependents = true
    WHERE j.id = ANY (dependencies) AND j.state <> 'completed' AND NOT j.has_dependents;
    RETURN ARRAY(
        SELECT d.id FROM unnest(dependencies) WITH ORDINALITY AS d (id, n)
        JOIN synk.job AS j ON j.id = d.id AND j.state <> 'completed' ORDER BY d.n);
END $$;


CREATE FUNCTION synk.job_before_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    told synk.job_state := NEW.state;
    was_final boolean := OLD.state IN ('completed', 'cancelled');
    is_recorded boolean := cardinality(NEW.errors) > cardinality(OLD.errors);
    is_counted_anew boolean := NEW.attempt < OLD.attempt;
    kept jsonb[];
BEGIN
    NEW.attempt := greatest(NEW.attempt, OLD.attempt);
    NEW.attempted_at := coalesce(NEW.attempted_at, OLD.attempted_at);
    IF NEW.state = OLD.state THEN
        NEW.finalized_at := CASE WHEN was_final
                                 THEN coalesce(NEW.finalized_at, OLD.finalized_at) END;
        RETURN NEW;
    END IF;
    IF cardinality(NEW.errors) > 20 THEN
        NEW.errors := NEW.errors[cardinality(NEW.errors) - 19:];
    END IF;

    IF was_final AND is_recorded THEN
        -- The outcome of an attempt from which the job was taken meanwhile: it stays on record.
        kept := NEW.errors;
        NEW := OLD;
        NEW.errors := kept;
        RETURN NEW;
    ELSIF was_final AND told IN ('running', 'completed', 'cancelled') THEN
        RAISE EXCEPTION 'job % is %: it can be made available again, but not %',
            OLD.id, OLD.state, told USING ERRCODE = 'SY003';
    END IF;

    IF told = 'running' THEN
        IF OLD.waiting_on <> '{}' THEN
            RETURN OLD;
        END IF;
        NEW.attempt := least(greatest(NEW.attempt, OLD.attempt + 1), 2000000000);
        NEW.max_attempts := greatest(NEW.max_attempts, NEW.attempt - NEW.uncounted);
        IF NEW.attempted_at IS NOT DISTINCT FROM OLD.attempted_at THEN
            NEW.attempted_at := moment;
        END IF;
        NEW.scheduled_at := least(NEW.scheduled_at, NEW.attempted_at);
        NEW.finalized_at := NULL;
        NEW.held := false;
        NEW.progress := NULL;
        RETURN NEW;
    END IF;

    IF OLD.state = 'running' THEN
        NEW.owner := NULL;
        NEW.claim_seq := NULL;
        IF told <> 'completed' AND NOT is_recorded THEN
            NEW.errors := OLD.errors[greatest(1, cardinality(OLD.errors) - 18):]
                || jsonb_build_object(
                    'at', moment, 'attempt', OLD.attempt,
                    'cause', CASE WHEN told = 'cancelled' THEN 'cancelled' ELSE 'lost' END,
                    'error', 'its row was changed by hand while it ran',
                    'supervisor', OLD.attempted_by[cardinality(OLD.attempted_by)]);
        END IF;
        -- A cancel that came while the attempt ran is granted now.
        IF told <> 'completed' AND NEW.cancel_requested_at IS NOT NULL THEN
            told := 'cancelled';
        END IF;
    END IF;

    IF told IN ('completed', 'cancelled') THEN
        NEW.state := told;
        NEW.finalized_at := coalesce(NEW.finalized_at, moment);
        NEW.held := false;
        NEW.waiting_on := '{}';
        IF told = 'completed' THEN
            NEW.cancel_reason := NULL;
            NEW.checkpoint := NULL;
        ELSE
            NEW.cancel_reason := coalesce(NEW.cancel_reason, CASE
                WHEN NEW.cancel_requested_at IS NULL AND is_recorded THEN 'failed'
                ELSE 'requested' END::synk.cancel_reason);
        END IF;
        IF NEW.cancel_reason = 'requested' THEN
            NEW.cancel_requested_at := coalesce(NEW.cancel_requested_at, moment);
        END IF;
        RETURN NEW;
    END IF;

    NEW.finalized_at := NULL;
    NEW.cancel_reason := NULL;
    IF was_final THEN
        -- It begins anew, behind what it depends on; the attempts keep their numbers.
        NEW.cancel_requested_at := NULL;
        NEW.result := NULL;
        NEW.duration_us := NULL;
        NEW.cpu_us := NULL;
        NEW.system_us := NULL;
        NEW.peak_rss_bytes := NULL;
        NEW.pid := NULL;
        NEW.crashes := 0;
        NEW.lost := 0;
        NEW.output := NULL;
        NEW.progress := NULL;
        IF OLD.depends_on <> '{}' THEN
            NEW.waiting_on := synk.job_unmet(OLD.id, OLD.depends_on);
        END IF;
    END IF;
    -- A job that has used its attempts up gets one more; others count them from zero.
    NEW.max_attempts := greatest(
        NEW.max_attempts, NEW.attempt - NEW.uncounted + 1,
        CASE WHEN is_counted_anew THEN NEW.attempt + 1 END);

    IF told = 'available' AND OLD.state <> 'pending' AND (
        NEW.scheduled_at = OLD.scheduled_at OR NEW.scheduled_at <= moment + interval '1 second')
    THEN
        NEW.scheduled_at := least(NEW.scheduled_at, moment);
    END IF;
    NEW.held := told = 'pending';
    NEW.state := CASE WHEN NEW.held OR NEW.waiting_on <> '{}' THEN 'pending'
                      WHEN NEW.scheduled_at > moment THEN 'scheduled' ELSE 'available' END;
    -- Who makes jobs available whose time has come looks for them himself.
    IF NEW.state = 'available' AND (
        OLD.state <> 'scheduled' OR NEW.scheduled_at <> OLD.scheduled_at)
    THEN
        PERFORM pg_notify('synk.job', NEW.queue);
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER job_before_change BEFORE UPDATE OF state, attempt ON synk.job
    FOR EACH ROW
    WHEN (NEW.owner IS NOT DISTINCT FROM OLD.owner
          AND (NEW.state <> OLD.state OR NEW.attempt < OLD.attempt)
          -- Nor do those that a dependency lets go or takes along.
          AND NEW.waiting_on = OLD.waiting_on)
    EXECUTE FUNCTION synk.job_before_change();


-- As before; and a job that runs without an owner is cancelled at once: 'taken', since whoever runs it
-- cannot be told.
CREATE OR REPLACE FUNCTION synk.cancel(job_id bigint) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target record;
BEGIN
    SELECT j.state, j.owner INTO target FROM synk.job AS j WHERE j.id = job_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'gone';
    ELSIF target.state IN ('completed', 'cancelled') THEN
        RETURN 'refused';
    ELSIF target.owner IS NOT NULL THEN
        UPDATE synk.job AS j SET cancel_requested_at = coalesce(j.cancel_requested_at, now())
        WHERE j.id = job_id;
        PERFORM pg_notify('synk.cancel', target.owner::text);
        RETURN 'requested';
    END IF;
    UPDATE synk.job AS j SET state = 'cancelled' WHERE j.id = job_id;
    RETURN CASE WHEN target.state = 'running' THEN 'taken' ELSE 'applied' END;
END $$;


-- Makes a job available at once that is over, waits for its time, or runs without an owner ('taken').
-- It waits again for what it depends on; 'blocked' if a dependency can no longer complete.
CREATE FUNCTION synk.retry(job_id bigint) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target record;
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
EXCEPTION WHEN SQLSTATE 'SY003' THEN
    RETURN 'blocked';
END $$;


-- The new objects are whose the old ones are. Whoever calls retry has the caller's rights there; the
-- others are for the triggers alone.
DO $$
DECLARE
    owner name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c
                   WHERE c.oid = 'synk.job'::regclass);
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY[
        'synk.job_unmet(bigint, bigint[])', 'synk.job_before_change()', 'synk.retry(bigint)'
    ] LOOP
        EXECUTE 'ALTER FUNCTION ' || each || ' OWNER TO ' || quote_ident(owner);
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION synk.job_unmet(bigint, bigint[]), synk.job_before_change() FROM PUBLIC;
