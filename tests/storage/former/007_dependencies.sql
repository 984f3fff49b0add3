-- Dependencies are looked at once a statement, not once a row: row by row, each cost a look at the
-- whole table, and a second version of its row. The triggers that look into tables ask for plans by
-- indexes alone, as synk's own sessions do: a plan from when the table was small is kept while it grows.

-- Puts a new row into the state that its columns mean. The common row (available, due, without
-- dependencies) never gets here.
CREATE OR REPLACE FUNCTION synk.job_before_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.depends_on := coalesce(NEW.depends_on, '{}');
    IF NEW.state IN ('running', 'completed', 'cancelled') THEN
        RETURN NEW;
    END IF;

    IF NEW.state = 'pending' THEN
        NEW.held := true;
    END IF;

    IF NEW.depends_on <> '{}' THEN
        -- Checked at the end of the statement (job_depends), settled at the end of the transaction
        -- (job_link), with the dependencies locked.
        NEW.state := 'pending';
        NEW.waiting_on := NEW.depends_on;
    ELSIF NOT NEW.held THEN
        NEW.state := CASE WHEN NEW.scheduled_at > now() THEN 'scheduled' ELSE 'available' END;
    END IF;
    RETURN NEW;
END $$;


-- What the jobs of one statement depend on, from its end to the end of its transaction, which ties
-- them (job_link). No row outlives its transaction, so that none needs to outlive a crash.
CREATE UNLOGGED TABLE synk.link (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dependencies bigint[] NOT NULL
);


-- Refuses jobs that depend on what is not there, or on each other in a circle: on other jobs of the
-- same statement they may depend only downwards, by their ids, and on all that was there before.
CREATE FUNCTION synk.job_depends() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
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
    WHERE j.id IS NULL AND (named.id < 1 OR named.id > (
        SELECT c.cleaned_up_to FROM synk.cleaned AS c WHERE c.only_row));

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

    INSERT INTO synk.link (dependencies) VALUES (dependencies);
    RETURN NULL;
END $$;

-- Of a job that depends on itself the constraint would speak first, and in other words.
ALTER TABLE synk.job DROP CONSTRAINT no_self_dependency;

CREATE TRIGGER job_depends AFTER INSERT ON synk.job
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION synk.job_depends();


-- Jobs are completed: what waits for them waits for the others only, or goes.
CREATE FUNCTION synk.job_release(ended bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    arrived record;
BEGIN
    FOR arrived IN
        -- waiting_on <> '{}' is what lets the planner use job_waiting, which is partial by it.
        WITH waiting AS MATERIALIZED (
            SELECT j.id FROM synk.job AS j
            WHERE j.waiting_on && ended AND j.waiting_on <> '{}' AND j.state = 'pending'
            ORDER BY j.id FOR NO KEY UPDATE
        ), released AS (
            UPDATE synk.job AS j
            SET waiting_on = ARRAY(SELECT w.id FROM unnest(j.waiting_on) AS w (id)
                                   WHERE w.id <> ALL (ended)),
                state = CASE WHEN j.held OR NOT j.waiting_on <@ ended THEN j.state
                             WHEN j.scheduled_at > now() THEN 'scheduled' ELSE 'available' END
            FROM waiting WHERE j.id = waiting.id AND j.state = 'pending'
            RETURNING j.state, j.queue
        )
        SELECT DISTINCT r.queue FROM released AS r WHERE r.state = 'available'
    LOOP
        PERFORM pg_notify('synk.job', arrived.queue);
    END LOOP;
END $$;


-- Jobs are cancelled, or gone before they completed: all that waits behind them is cancelled.
CREATE FUNCTION synk.job_sweep(ended bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Sweeps instead of a trigger for each generation: a chain of any length fits. After a sweep
    -- another looks at what was tied meanwhile to the jobs that it had to wait for.
    LOOP
        WITH RECURSIVE doomed (id, has_dependents) AS (
            SELECT j.id, j.has_dependents FROM synk.job AS j
            WHERE j.waiting_on && ended AND j.waiting_on <> '{}' AND j.state = 'pending'
            UNION
            -- OFFSET 0: one look into job_waiting for each, or the planner compares all with all.
            SELECT next.id, next.has_dependents FROM doomed AS d CROSS JOIN LATERAL (
                SELECT j.id, j.has_dependents FROM synk.job AS j
                WHERE j.waiting_on @> ARRAY[d.id] AND j.waiting_on <> '{}' AND j.state = 'pending'
                OFFSET 0
            ) AS next
            WHERE d.has_dependents
        ), locked AS (
            SELECT j.id FROM synk.job AS j WHERE j.id IN (SELECT d.id FROM doomed AS d)
            ORDER BY j.id FOR NO KEY UPDATE
        ), swept AS (
            UPDATE synk.job AS j
            SET state = 'cancelled', cancel_reason = 'dependency', finalized_at = now(),
                held = false, waiting_on = '{}'
            FROM locked WHERE j.id = locked.id AND j.state = 'pending'
            RETURNING j.id, j.has_dependents
        )
        SELECT array_agg(s.id) INTO ended FROM swept AS s WHERE s.has_dependents;
        EXIT WHEN ended IS NULL;
    END LOOP;
END $$;


-- Ties jobs to what they depend on. It runs when the inserting transaction commits, so that those
-- rows are locked for an instant only, however long the producer keeps its transaction open. The
-- lock decides the race with an acknowledgement: either this sees the dependency's end, or the end
-- sees the jobs (has_dependents makes job_after_end look for them).
CREATE OR REPLACE FUNCTION synk.job_link() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    completed bigint[];
    lost bigint[];
BEGIN
    PERFORM FROM synk.job AS j WHERE j.id = ANY (NEW.dependencies)
    ORDER BY j.id FOR NO KEY UPDATE;

    UPDATE synk.job AS j SET has_dependents = true
    WHERE j.id = ANY (NEW.dependencies) AND j.state NOT IN ('completed', 'cancelled')
      AND NOT j.has_dependents;

    SELECT array_agg(d.id) FILTER (WHERE coalesce(j.state = 'completed', d.id <= c.cleaned_up_to)),
           array_agg(d.id) FILTER (WHERE coalesce(j.state = 'cancelled', d.id > c.cleaned_up_to))
    INTO completed, lost
    FROM unnest(NEW.dependencies) AS d (id)
    LEFT JOIN synk.job AS j ON j.id = d.id
    CROSS JOIN (SELECT c.cleaned_up_to FROM synk.cleaned AS c WHERE c.only_row) AS c;

    IF lost IS NOT NULL THEN
        PERFORM synk.job_sweep(lost);
    END IF;
    IF completed IS NOT NULL THEN
        PERFORM synk.job_release(completed);
    END IF;
    DELETE FROM synk.link AS l WHERE l.id = NEW.id;
    RETURN NULL;
END $$;

DROP TRIGGER job_link ON synk.job;
CREATE CONSTRAINT TRIGGER job_link AFTER INSERT ON synk.link
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION synk.job_link();
DROP FUNCTION synk.job_release_if_ready(bigint, bigint[]);


-- A job that others wait for has ended, or is gone: the last completed dependency lets a job go,
-- a cancelled one cancels it and all that waits behind it, in the transaction that ended it.
CREATE OR REPLACE FUNCTION synk.job_after_end() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.state = 'completed' THEN
        PERFORM synk.job_release(ARRAY[OLD.id]);
    ELSE
        PERFORM synk.job_sweep(ARRAY[OLD.id]);
    END IF;
    RETURN NULL;
END $$;


-- The new objects are whose the old ones are, and nobody else calls them.
DO $$
DECLARE
    owner name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c
                   WHERE c.oid = 'synk.job'::regclass);
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY[
        'synk.job_depends()', 'synk.job_release(bigint[])', 'synk.job_sweep(bigint[])'
    ] LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION ' || each || ' FROM PUBLIC';
        EXECUTE 'ALTER FUNCTION ' || each || ' OWNER TO ' || quote_ident(owner);
    END LOOP;
    EXECUTE 'ALTER TABLE synk.link OWNER TO ' || quote_ident(owner);
END $$;
