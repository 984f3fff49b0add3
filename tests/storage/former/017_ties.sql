-- What a job waits for is a row for each dependency, and a number in its own row. It was an array there,
-- of which each completion wrote all that was left, and its index.
--
-- All that ends in a transaction, and all that is inserted, is settled when the transaction commits, in
-- one go and in the order of ids: however long somebody keeps it open, no dependent is locked meanwhile,
-- and two that settle the same dependents do not wait for each other crosswise.
--
-- Whatever the number of ids, all plans are by indexes: one plan for all costs half as much as one a call.
--
-- A dependent's ties change only while its row is locked. Those of a job that has ended in another way
-- stay until its dependencies end, and mean nothing.

DROP TRIGGER job_before_change ON synk.job;

ALTER TABLE synk.job
    -- How many of depends_on are not completed yet.
    ADD COLUMN unmet integer NOT NULL DEFAULT 0,
    -- Checked of depends_on at the insert alone: to look at it, all of it is read, at each change of the row.
    DROP CONSTRAINT lists_are_flat,
    ADD CONSTRAINT lists_are_flat CHECK (
        array_ndims(errors) = 1 AND array_ndims(attempted_by) = 1
    ) NOT VALID;

CREATE TABLE synk.tie (
    dependency bigint NOT NULL,
    dependent  bigint NOT NULL,
    PRIMARY KEY (dependency, dependent)
);
CREATE INDEX tie_dependent ON synk.tie (dependent);

-- What is to be settled when its transaction commits. No row outlives its transaction, so that none
-- needs to outlive a crash.
CREATE UNLOGGED TABLE synk.settling (
    n    bigint GENERATED ALWAYS AS IDENTITY,
    xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ids  bigint[] NOT NULL,
    PRIMARY KEY (xact, n)
);

-- Jobs that have ended with more ties than one transaction settles: supervisors go on with them.
CREATE TABLE synk.unsettled (
    id bigint PRIMARY KEY
);

ALTER TABLE synk.tie SET (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 20000
);
ALTER TABLE synk.settling SET (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000
);


-- What waits now. Every value of the index is looked at, and no other row.
SET LOCAL enable_seqscan = off;
INSERT INTO synk.tie (dependency, dependent)
SELECT DISTINCT w.id, j.id
FROM synk.job AS j CROSS JOIN unnest(j.waiting_on) AS w (id)
WHERE j.waiting_on @> '{}' AND j.waiting_on <> '{}' AND j.state = 'pending';
-- The column stays, empty: acknowledgements of supervisors of the version before look into it.
UPDATE synk.job AS j
SET waiting_on = '{}', unmet = (SELECT count(*) FROM synk.tie AS t WHERE t.dependent = j.id)
WHERE j.waiting_on @> '{}' AND j.waiting_on <> '{}';
SET LOCAL enable_seqscan = on;
DROP INDEX synk.job_waiting;


CREATE OR REPLACE FUNCTION synk.job_before_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.depends_on := coalesce(NEW.depends_on, '{}');
    IF array_ndims(NEW.depends_on) > 1 THEN
        RAISE EXCEPTION 'depends_on of job "%" is an array of arrays', NEW.name
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                  CONSTRAINT = 'lists_are_flat';
    ELSIF NEW.state = 'running' AND NEW.owner IS NULL THEN
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


-- Refuses jobs that depend on what is not there, or on each other in a circle: on other jobs of the
-- same statement they may depend only downwards, by their ids, and on all that was there before.
CREATE OR REPLACE FUNCTION synk.job_depends() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    dependencies bigint[];
    unknown bigint[];
    refused record;
BEGIN
    SELECT array_agg(named.id) INTO dependencies
    FROM (SELECT DISTINCT unnest(i.depends_on) AS id FROM inserted AS i
          WHERE i.depends_on <> '{}' AND i.state = 'pending') AS named;
    IF dependencies IS NULL THEN
        RETURN NULL;
    END IF;

    SELECT array_agg(named.id) INTO unknown
    FROM unnest(dependencies) AS named (id)
    LEFT JOIN synk.job AS j ON j.id = named.id
    WHERE j.id IS NULL AND NOT synk.job_has_completed(named.id);

    SELECT i.name, d.id INTO refused
    FROM inserted AS i CROSS JOIN unnest(i.depends_on) AS d (id)
    WHERE i.depends_on <> '{}' AND i.state = 'pending' AND (
        d.id IS NULL OR d.id = ANY (unknown)
        OR d.id >= i.id AND d.id IN (SELECT same.id FROM inserted AS same))
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'job "%" depends on %, which is not an existing job',
            refused.name, coalesce(refused.id::text, 'NULL')
            USING ERRCODE = 'SY001', DETAIL = coalesce(refused.id::text, 'NULL');
    END IF;

    INSERT INTO synk.tie (dependency, dependent)
    SELECT d.id, i.id FROM inserted AS i CROSS JOIN unnest(i.depends_on) AS d (id)
    WHERE i.depends_on <> '{}' AND i.state = 'pending'
    ON CONFLICT DO NOTHING;
    INSERT INTO synk.settling (ids) VALUES (dependencies);
    RETURN NULL;
END $$;


-- Jobs are completed: what waits for them waits for the others only, or goes. Of very many the first.
CREATE OR REPLACE FUNCTION synk.job_release(ended bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    room CONSTANT integer := 10000 + cardinality(ended);
    number integer;
    arrived text[];
BEGIN
    WITH found AS MATERIALIZED (
        SELECT t.dependency, t.dependent
        FROM unnest(ended) AS e (id)
        -- OFFSET 0: one look into the index for each, or the planner compares all with all.
        CROSS JOIN LATERAL (
            SELECT t.dependency, t.dependent FROM synk.tie AS t WHERE t.dependency = e.id OFFSET 0
        ) AS t
        LIMIT room
    ), held AS MATERIALIZED (
        SELECT j.id FROM synk.job AS j WHERE j.id = ANY (ARRAY(SELECT f.dependent FROM found AS f))
        ORDER BY j.id FOR NO KEY UPDATE
    ), gone AS (
        -- What others have done with them before they were locked is not done again.
        DELETE FROM synk.tie AS t USING found AS f
        WHERE t.dependency = f.dependency AND t.dependent = f.dependent
          AND (SELECT count(*) FROM held) >= 0
        RETURNING t.dependent
    ), met AS (
        SELECT g.dependent, count(*) AS number FROM gone AS g GROUP BY g.dependent
    ), released AS (
        UPDATE synk.job AS j
        SET unmet = j.unmet - m.number,
            state = CASE WHEN j.held OR j.unmet > m.number THEN j.state
                         WHEN j.scheduled_at > clock_timestamp() THEN 'scheduled'
                         ELSE 'available' END
        FROM met AS m WHERE j.id = m.dependent AND j.state = 'pending' AND j.unmet > 0
        RETURNING j.state, j.queue
    )
    SELECT array_agg(DISTINCT r.queue) FILTER (WHERE r.state = 'available'),
           (SELECT count(*) FROM found)
    INTO arrived, number FROM released AS r;

    PERFORM pg_notify('synk.job', a.queue) FROM unnest(arrived) AS a (queue);
    IF number = room THEN
        PERFORM synk.job_leave(ended);
    END IF;
END $$;


-- Jobs are cancelled, or gone before they completed: all that waits behind them is cancelled. Of very
-- many the first.
CREATE OR REPLACE FUNCTION synk.job_sweep(ended bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    room integer := 10000 + cardinality(ended);
    number integer;
    swept bigint[];
BEGIN
    -- A generation after the other, which is locked before the next is looked for: what was tied to it
    -- meanwhile is among that.
    WHILE ended IS NOT NULL AND room > 0 LOOP
        WITH found AS MATERIALIZED (
            SELECT t.dependency, t.dependent
            FROM unnest(ended) AS e (id)
            CROSS JOIN LATERAL (
                SELECT t.dependency, t.dependent FROM synk.tie AS t WHERE t.dependency = e.id OFFSET 0
            ) AS t
            LIMIT room
        ), held AS MATERIALIZED (
            SELECT j.id FROM synk.job AS j
            WHERE j.id = ANY (ARRAY(SELECT f.dependent FROM found AS f))
            ORDER BY j.id FOR NO KEY UPDATE
        ), gone AS (
            DELETE FROM synk.tie AS t USING found AS f
            WHERE t.dependency = f.dependency AND t.dependent = f.dependent
              AND (SELECT count(*) FROM held) >= 0
            RETURNING t.dependent
        ), cancelled AS (
            UPDATE synk.job AS j
            SET state = 'cancelled', cancel_reason = 'dependency', finalized_at = now(),
                held = false, unmet = 0
            FROM (SELECT DISTINCT g.dependent FROM gone AS g) AS g
            WHERE j.id = g.dependent AND j.state = 'pending' AND j.unmet > 0
            RETURNING j.id, j.has_dependents
        )
        SELECT array_agg(c.id) FILTER (WHERE c.has_dependents), (SELECT count(*) FROM found)
        INTO swept, number FROM cancelled AS c;
        -- A generation takes as long as some of its members.
        room := room - greatest(number, 3);
        ended := CASE WHEN room > 0 THEN swept ELSE ended || swept END;
    END LOOP;
    IF room <= 0 THEN
        PERFORM synk.job_leave(ended);
    END IF;
END $$;


-- Leaves to the supervisors what is still tied to jobs that have ended.
CREATE FUNCTION synk.job_leave(ended bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO synk.unsettled (id)
    SELECT e.id FROM unnest(ended) AS e (id)
    WHERE EXISTS (SELECT FROM synk.tie AS t WHERE t.dependency = e.id OFFSET 0)
    ORDER BY e.id
    ON CONFLICT DO NOTHING
$$;


-- Settles what is tied to jobs, by the states that these have now. Their lock decides the race of a
-- producer's commit with an end: either this sees the end, or the end sees the ties (has_dependents
-- makes job_after_end look for them). The mark is made anew each time: an end in a transaction that
-- sees no later ties (REPEATABLE READ) is refused by the server then.
CREATE FUNCTION synk.job_settle(ids bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    completed bigint[];
    lost bigint[];
BEGIN
    PERFORM FROM synk.job AS j WHERE j.id = ANY (ids) ORDER BY j.id FOR NO KEY UPDATE;

    UPDATE synk.job AS j SET has_dependents = true
    WHERE j.id = ANY (ids) AND j.state NOT IN ('completed', 'cancelled');

    SELECT array_agg(d.id) FILTER (WHERE d.state = 'completed'),
           array_agg(d.id) FILTER (WHERE d.state = 'cancelled')
    INTO completed, lost
    FROM (
        SELECT n.id, CASE WHEN j.id IS NOT NULL THEN j.state
                          WHEN synk.job_has_completed(n.id) THEN 'completed'
                          ELSE 'cancelled' END AS state
        FROM unnest(ids) AS n (id) LEFT JOIN synk.job AS j ON j.id = n.id
        OFFSET 0
    ) AS d;

    IF lost IS NOT NULL THEN
        PERFORM synk.job_sweep(lost);
    END IF;
    IF completed IS NOT NULL THEN
        PERFORM synk.job_release(completed);
    END IF;
END $$;

-- The first of a transaction's notes settles all of them.
CREATE FUNCTION synk.job_settle_noted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    noted bigint[];
BEGIN
    PERFORM FROM synk.settling AS s WHERE s.xact = NEW.xact AND s.n = NEW.n;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    WITH taken AS (
        DELETE FROM synk.settling AS s WHERE s.xact = NEW.xact RETURNING s.ids
    )
    SELECT array_agg(DISTINCT named.id) INTO noted
    FROM taken AS t CROSS JOIN unnest(t.ids) AS named (id);
    PERFORM synk.job_settle(noted);
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER job_settle_noted AFTER INSERT ON synk.settling
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION synk.job_settle_noted();

DROP TABLE synk.link;
DROP FUNCTION synk.job_link();


-- A supervisor takes jobs from the list to go on with them; what is left then is on the list again.
CREATE FUNCTION synk.unsettled_after_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO synk.settling (ids) SELECT array_agg(t.id) FROM taken AS t HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE TRIGGER unsettled_after_delete AFTER DELETE ON synk.unsettled
    REFERENCING OLD TABLE AS taken
    FOR EACH STATEMENT EXECUTE FUNCTION synk.unsettled_after_delete();


-- A job that others wait for has ended, or is gone: the last completed dependency lets a job go,
-- a cancelled one cancels it and all that waits behind it, in the transaction that ended it.
CREATE OR REPLACE FUNCTION synk.job_after_end() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO synk.settling (ids) VALUES (ARRAY[OLD.id]);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION synk.job_after_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    done bigint[];
    lost bigint[];
    tied bigint[];
BEGIN
    SELECT array_agg(r.id) FILTER (WHERE r.state = 'completed'),
           array_agg(r.id) FILTER (WHERE r.state <> 'completed' AND r.has_dependents),
           array_agg(r.id) FILTER (WHERE r.state <> 'completed' AND r.depends_on <> '{}')
    INTO done, lost, tied FROM removed AS r;
    IF done IS NOT NULL THEN
        PERFORM synk.job_note_completed(done);
    END IF;
    IF lost IS NOT NULL THEN
        INSERT INTO synk.settling (ids) VALUES (lost);
    END IF;
    IF tied IS NOT NULL THEN
        DELETE FROM synk.tie AS t WHERE t.dependent = ANY (tied);
    END IF;
    RETURN NULL;
END $$;

-- Numbers that begin anew must not meet ties of before.
CREATE FUNCTION synk.job_after_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    TRUNCATE synk.tie, synk.unsettled;
    RETURN NULL;
END $$;

CREATE TRIGGER job_after_truncate AFTER TRUNCATE ON synk.job
    FOR EACH STATEMENT EXECUTE FUNCTION synk.job_after_truncate();


-- Ties a job that begins anew to those of its dependencies that are not completed, with all of them
-- locked; says how many they are. Refuses it if one can no longer complete.
CREATE FUNCTION synk.job_tie_anew(job_id bigint, dependencies bigint[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    lost record;
    unmet integer;
BEGIN
    PERFORM FROM synk.job AS j WHERE j.id = ANY (dependencies) ORDER BY j.id FOR NO KEY UPDATE;

    SELECT d.id, j.state INTO lost
    FROM unnest(dependencies) AS d (id)
    LEFT JOIN synk.job AS j ON j.id = d.id
    WHERE j.state = 'cancelled' OR j.id IS NULL AND NOT synk.job_has_completed(d.id)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'job % depends on %, which %', job_id, lost.id,
            CASE WHEN lost.state IS NULL THEN 'is gone and never completed'
                 ELSE 'is cancelled: make that available first' END
            USING ERRCODE = 'SY003', DETAIL = lost.id::text;
    END IF;

    UPDATE synk.job AS j SET has_dependents = true
    WHERE j.id = ANY (dependencies) AND j.state <> 'completed';
    DELETE FROM synk.tie AS t WHERE t.dependent = job_id;
    INSERT INTO synk.tie (dependency, dependent)
    SELECT j.id, job_id FROM synk.job AS j WHERE j.id = ANY (dependencies) AND j.state <> 'completed';
    GET DIAGNOSTICS unmet = ROW_COUNT;
    RETURN unmet;
END $$;

DROP FUNCTION synk.job_unmet(bigint, bigint[]);


CREATE OR REPLACE FUNCTION synk.job_before_change() RETURNS trigger
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
        IF OLD.unmet > 0 THEN
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
        NEW.unmet := 0;
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
            NEW.unmet := synk.job_tie_anew(OLD.id, OLD.depends_on);
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
    NEW.state := CASE WHEN NEW.held OR NEW.unmet > 0 THEN 'pending'
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
          AND NEW.unmet = OLD.unmet)
    EXECUTE FUNCTION synk.job_before_change();
