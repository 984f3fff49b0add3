-- What jobs wait for: a row for each dependency, and a number in the job's own row.
--
-- All that ends in a transaction, and all that is inserted, is settled when the transaction commits, in
-- one go and in the order of ids: however long somebody keeps it open, no dependent is locked meanwhile,
-- and two that settle the same dependents do not wait for each other crosswise.
--
-- Whatever the number of ids, all plans are by indexes: one plan for all costs half as much as one a call.
--
-- A dependent's ties change only while its row is locked. Those of a job that has ended in another way
-- stay until its dependencies end, and mean nothing.

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

-- Vacuumed by the number of dead rows, not by their share.
ALTER TABLE synk.tie SET (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 20000
);
ALTER TABLE synk.settling SET (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000
);


-- Refuses jobs that depend on what is not there, or on each other in a circle: on other jobs of the
-- same statement they may depend only downwards, by their ids, and on all that was there before.
CREATE FUNCTION synk.job_depends() RETURNS trigger
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

CREATE TRIGGER job_depends AFTER INSERT ON synk.job
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION synk.job_depends();


-- A job that others wait for has ended: the last completed dependency lets a job go, a cancelled one
-- cancels it and all that waits behind it, in the transaction that ended it.
CREATE FUNCTION synk.job_after_end() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO synk.settling (ids) VALUES (ARRAY[OLD.id]);
    RETURN NULL;
END $$;

CREATE TRIGGER job_after_end AFTER UPDATE OF state ON synk.job
    FOR EACH ROW
    WHEN (NEW.has_dependents AND NEW.state IN ('completed', 'cancelled')
          AND OLD.state <> NEW.state AND NEW.cancel_reason IS DISTINCT FROM 'dependency')
    EXECUTE FUNCTION synk.job_after_end();


-- Jobs are gone: those that completed are noted, the others take along what waits for them.
CREATE FUNCTION synk.job_after_delete() RETURNS trigger
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

CREATE TRIGGER job_after_delete AFTER DELETE ON synk.job
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION synk.job_after_delete();


-- Numbers that begin anew must not meet ties of before.
CREATE FUNCTION synk.job_after_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    TRUNCATE synk.tie, synk.unsettled;
    RETURN NULL;
END $$;

CREATE TRIGGER job_after_truncate AFTER TRUNCATE ON synk.job
    FOR EACH STATEMENT EXECUTE FUNCTION synk.job_after_truncate();


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


-- Takes the ties to jobs that have ended, of very many the first, with those who wait locked. What others
-- have done with them before they were locked is not done again. Says how many ties there were, and who
-- had one that is gone now, as often as they had one.
CREATE FUNCTION synk.job_untie(ended bigint[], room integer) RETURNS TABLE (found integer, freed bigint[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY WITH tied AS MATERIALIZED (
        SELECT t.dependency, t.dependent
        FROM unnest(ended) AS e (id)
        -- OFFSET 0: one look into the index for each, or the planner compares all with all.
        CROSS JOIN LATERAL (
            SELECT t.dependency, t.dependent FROM synk.tie AS t WHERE t.dependency = e.id OFFSET 0
        ) AS t
        LIMIT room
    ), held AS MATERIALIZED (
        SELECT j.id FROM synk.job AS j WHERE j.id = ANY (ARRAY(SELECT t.dependent FROM tied AS t))
        ORDER BY j.id FOR NO KEY UPDATE
    ), gone AS (
        DELETE FROM synk.tie AS t USING tied AS f
        WHERE t.dependency = f.dependency AND t.dependent = f.dependent
          AND (SELECT count(*) FROM held) >= 0
        RETURNING t.dependent
    )
    SELECT (SELECT count(*)::integer FROM tied), array_agg(g.dependent) FROM gone AS g;
END $$;


-- Jobs are completed: what waits for them waits for the others only, or goes. Of very many the first.
CREATE FUNCTION synk.job_release(ended bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    room CONSTANT integer := 10000 + cardinality(ended);
    untied record;
    arrived text[];
BEGIN
    SELECT u.found, u.freed INTO untied FROM synk.job_untie(ended, room) AS u;
    WITH released AS (
        UPDATE synk.job AS j
        SET unmet = j.unmet - m.number,
            state = CASE WHEN j.held OR j.unmet > m.number THEN j.state
                         WHEN j.scheduled_at > clock_timestamp() THEN 'scheduled'
                         ELSE 'available' END
        FROM (SELECT f.id, count(*) AS number FROM unnest(untied.freed) AS f (id) GROUP BY f.id) AS m
        WHERE j.id = m.id AND j.state = 'pending' AND j.unmet > 0
        RETURNING j.state, j.queue
    )
    SELECT array_agg(DISTINCT r.queue) FILTER (WHERE r.state = 'available')
    INTO arrived FROM released AS r;

    PERFORM pg_notify('synk.job', a.queue) FROM unnest(arrived) AS a (queue);
    IF untied.found = room THEN
        PERFORM synk.job_leave(ended);
    END IF;
END $$;


-- Jobs are cancelled, or gone before they completed: all that waits behind them is cancelled. Of very
-- many the first.
CREATE FUNCTION synk.job_sweep(ended bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    room integer := 10000 + cardinality(ended);
    untied record;
    swept bigint[];
BEGIN
    -- A generation after the other, which is locked before the next is looked for: what was tied to it
    -- meanwhile is among that.
    WHILE ended IS NOT NULL AND room > 0 LOOP
        SELECT u.found, u.freed INTO untied FROM synk.job_untie(ended, room) AS u;
        WITH cancelled AS (
            UPDATE synk.job AS j
            SET state = 'cancelled', cancel_reason = 'dependency', finalized_at = now(),
                held = false, unmet = 0
            WHERE j.id = ANY (untied.freed) AND j.state = 'pending' AND j.unmet > 0
            RETURNING j.id, j.has_dependents
        )
        SELECT array_agg(c.id) FILTER (WHERE c.has_dependents) INTO swept FROM cancelled AS c;
        -- A generation takes as long as some of its members.
        room := room - greatest(untied.found, 3);
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
