-- The last schema before the first one, as main made it then: a dump of `pg_dump --schema=synk`.
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET client_min_messages = warning;

CREATE SCHEMA synk;

ALTER SCHEMA synk OWNER TO synk_owner;

CREATE TYPE synk.cancel_reason AS ENUM (
    'requested',
    'failed',
    'dependency',
    'poison'
);

ALTER TYPE synk.cancel_reason OWNER TO synk_owner;

CREATE TYPE synk.job_state AS ENUM (
    'available',
    'cancelled',
    'completed',
    'running',
    'scheduled',
    'pending'
);

ALTER TYPE synk.job_state OWNER TO synk_owner;

CREATE FUNCTION synk.cancel(job_id bigint) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    target record;
BEGIN
    SELECT j.state, j.owner INTO target FROM "synk".job AS j WHERE j.id = job_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'gone';
    ELSIF target.state IN ('completed', 'cancelled') THEN
        RETURN 'refused';
    ELSIF target.owner IS NOT NULL THEN
        UPDATE "synk".job AS j SET cancel_requested_at = coalesce(j.cancel_requested_at, now())
        WHERE j.id = job_id;
        PERFORM pg_notify('"synk".cancel', target.owner::text);
        RETURN 'requested';
    END IF;
    UPDATE "synk".job AS j SET state = 'cancelled' WHERE j.id = job_id;
    RETURN CASE WHEN target.state = 'running' THEN 'taken' ELSE 'applied' END;
END $$;

ALTER FUNCTION synk.cancel(job_id bigint) OWNER TO synk_owner;

CREATE FUNCTION synk.complete(job_id bigint, job_attempt integer, job_owner uuid, job_claim_seq bigint, job_result jsonb) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    UPDATE "synk".job AS j
    SET state = 'completed', finalized_at = now(), result = job_result, checkpoint = NULL,
        duration_us = NULL, cpu_us = NULL, system_us = NULL, peak_rss_bytes = NULL, pid = NULL,
        output = NULL,
        owner = NULL, claim_seq = NULL, acked_by = job_owner, acked_attempt = job_attempt
    WHERE j.id = job_id AND j.state = 'running' AND j.attempt = job_attempt
      AND j.owner = job_owner AND j.claim_seq = job_claim_seq;
    RETURN FOUND;
END $$;

ALTER FUNCTION synk.complete(job_id bigint, job_attempt integer, job_owner uuid, job_claim_seq bigint, job_result jsonb) OWNER TO synk_owner;

CREATE FUNCTION synk.job_after_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
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
        PERFORM "synk".job_note_completed(done);
    END IF;
    IF lost IS NOT NULL THEN
        INSERT INTO "synk".settling (ids) VALUES (lost);
    END IF;
    IF tied IS NOT NULL THEN
        DELETE FROM "synk".tie AS t WHERE t.dependent = ANY (tied);
    END IF;
    RETURN NULL;
END $$;

ALTER FUNCTION synk.job_after_delete() OWNER TO synk_owner;

CREATE FUNCTION synk.job_after_end() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    INSERT INTO "synk".settling (ids) VALUES (ARRAY[OLD.id]);
    RETURN NULL;
END $$;

ALTER FUNCTION synk.job_after_end() OWNER TO synk_owner;

CREATE FUNCTION synk.job_after_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    TRUNCATE "synk".tie, "synk".unsettled;
    RETURN NULL;
END $$;

ALTER FUNCTION synk.job_after_truncate() OWNER TO synk_owner;

CREATE FUNCTION synk.job_announce() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    PERFORM pg_notify('"synk".job', arrived.queue)
    FROM (SELECT DISTINCT i.queue FROM inserted AS i WHERE i.state = 'available') AS arrived;
    RETURN NULL;
END $$;

ALTER FUNCTION synk.job_announce() OWNER TO synk_owner;

CREATE FUNCTION synk.job_before_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    told "synk".job_state := NEW.state;
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
                ELSE 'requested' END::"synk".cancel_reason);
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
            NEW.unmet := "synk".job_tie_anew(OLD.id, OLD.depends_on);
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
        PERFORM pg_notify('"synk".job', NEW.queue);
    END IF;
    RETURN NEW;
END $$;

ALTER FUNCTION synk.job_before_change() OWNER TO synk_owner;

CREATE FUNCTION synk.job_before_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION synk.job_before_insert() OWNER TO synk_owner;

CREATE FUNCTION synk.job_check_key() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION synk.job_check_key() OWNER TO synk_owner;

CREATE FUNCTION synk.job_depends() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
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
    LEFT JOIN "synk".job AS j ON j.id = named.id
    WHERE j.id IS NULL AND NOT "synk".job_has_completed(named.id);

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

    INSERT INTO "synk".tie (dependency, dependent)
    SELECT d.id, i.id FROM inserted AS i CROSS JOIN unnest(i.depends_on) AS d (id)
    WHERE i.depends_on <> '{}' AND i.state = 'pending'
    ON CONFLICT DO NOTHING;
    INSERT INTO "synk".settling (ids) VALUES (dependencies);
    RETURN NULL;
END $$;

ALTER FUNCTION synk.job_depends() OWNER TO synk_owner;

CREATE FUNCTION synk.job_depends_on_is_fixed() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RAISE EXCEPTION 'depends_on of job % cannot be changed after its insert', OLD.id
        USING ERRCODE = 'SY002';
END $$;

ALTER FUNCTION synk.job_depends_on_is_fixed() OWNER TO synk_owner;

CREATE FUNCTION synk.job_has_completed(job_id bigint) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT coalesce((
        SELECT c.last >= job_id FROM "synk".completed AS c
        WHERE c.first <= job_id ORDER BY c.first DESC LIMIT 1), false)
$$;

ALTER FUNCTION synk.job_has_completed(job_id bigint) OWNER TO synk_owner;

CREATE FUNCTION synk.job_leave(ended bigint[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    INSERT INTO "synk".unsettled (id)
    SELECT e.id FROM unnest(ended) AS e (id)
    WHERE EXISTS (SELECT FROM "synk".tie AS t WHERE t.dependency = e.id OFFSET 0)
    ORDER BY e.id
    ON CONFLICT DO NOTHING
$$;

ALTER FUNCTION synk.job_leave(ended bigint[]) OWNER TO synk_owner;

CREATE FUNCTION synk.job_note_completed(ids bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
DECLARE
    firsts bigint[];
    lasts bigint[];
    near bigint[];
    near_lasts bigint[];
BEGIN
    SELECT array_agg(i.first), array_agg(i.last) INTO firsts, lasts
    FROM (
        SELECT min(n.id) AS first, max(n.id) AS last
        FROM (SELECT g.id, g.id - row_number() OVER (ORDER BY g.id) AS island
              FROM unnest(ids) AS g (id)) AS n
        GROUP BY n.island
    ) AS i;

    SELECT array_agg(held.first), array_agg(held.last) INTO near, near_lasts
    FROM (
        SELECT c.first, c.last FROM "synk".completed AS c
        WHERE c.first = ANY (ARRAY(
            SELECT before.first
            FROM unnest(firsts) AS f (first)
            CROSS JOIN LATERAL (
                SELECT c.first, c.last FROM "synk".completed AS c
                WHERE c.first <= f.first ORDER BY c.first DESC LIMIT 1
            ) AS before
            WHERE before.last >= f.first - 1
            UNION ALL
            SELECT behind.first
            FROM unnest(firsts, lasts) AS f (first, last)
            CROSS JOIN LATERAL (
                SELECT c.first FROM "synk".completed AS c
                WHERE c.first > f.first AND c.first <= f.last + 1 OFFSET 0
            ) AS behind
        ))
        FOR UPDATE SKIP LOCKED
    ) AS held;
    DELETE FROM "synk".completed AS c WHERE c.first = ANY (near);

    INSERT INTO "synk".completed (first, last)
    SELECT min(part.first), max(part.last)
    FROM (
        SELECT marked.first, marked.last,
               count(*) FILTER (WHERE marked.is_new) OVER (ORDER BY marked.first, marked.last) AS n
        FROM (
            SELECT r.first, r.last, r.first > coalesce(max(r.last) OVER (
                       ORDER BY r.first, r.last ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                   ), r.first - 2) + 1 AS is_new
            FROM (SELECT * FROM unnest(firsts, lasts) AS f (first, last)
                  UNION ALL SELECT * FROM unnest(near, near_lasts) AS b (first, last)) AS r
        ) AS marked
    ) AS part
    GROUP BY part.n
    ON CONFLICT (first) DO UPDATE SET last = greatest(completed.last, excluded.last);
END $$;

ALTER FUNCTION synk.job_note_completed(ids bigint[]) OWNER TO synk_owner;

CREATE FUNCTION synk.job_note_key() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    noted text;
BEGIN
    -- An assignment: a third of what PERFORM takes.
    noted := set_config('synk_key.given', concat(
        char_length(NEW.idempotency_key), ' ', NEW.idempotency_key, ' ',
        jsonb_hash_extended(NEW.args, 0), ' ', NEW.kind), true);
    RETURN NEW;
END $$;

ALTER FUNCTION synk.job_note_key() OWNER TO synk_owner;

CREATE FUNCTION synk.job_release(ended bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
            SELECT t.dependency, t.dependent FROM "synk".tie AS t WHERE t.dependency = e.id OFFSET 0
        ) AS t
        LIMIT room
    ), held AS MATERIALIZED (
        SELECT j.id FROM "synk".job AS j WHERE j.id = ANY (ARRAY(SELECT f.dependent FROM found AS f))
        ORDER BY j.id FOR NO KEY UPDATE
    ), gone AS (
        -- What others have done with them before they were locked is not done again.
        DELETE FROM "synk".tie AS t USING found AS f
        WHERE t.dependency = f.dependency AND t.dependent = f.dependent
          AND (SELECT count(*) FROM held) >= 0
        RETURNING t.dependent
    ), met AS (
        SELECT g.dependent, count(*) AS number FROM gone AS g GROUP BY g.dependent
    ), released AS (
        UPDATE "synk".job AS j
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

    PERFORM pg_notify('"synk".job', a.queue) FROM unnest(arrived) AS a (queue);
    IF number = room THEN
        PERFORM "synk".job_leave(ended);
    END IF;
END $$;

ALTER FUNCTION synk.job_release(ended bigint[]) OWNER TO synk_owner;

CREATE FUNCTION synk.job_settle(ids bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
DECLARE
    completed bigint[];
    lost bigint[];
BEGIN
    PERFORM FROM "synk".job AS j WHERE j.id = ANY (ids) ORDER BY j.id FOR NO KEY UPDATE;

    UPDATE "synk".job AS j SET has_dependents = true
    WHERE j.id = ANY (ids) AND j.state NOT IN ('completed', 'cancelled');

    SELECT array_agg(d.id) FILTER (WHERE d.state = 'completed'),
           array_agg(d.id) FILTER (WHERE d.state = 'cancelled')
    INTO completed, lost
    FROM (
        SELECT n.id, CASE WHEN j.id IS NOT NULL THEN j.state
                          WHEN "synk".job_has_completed(n.id) THEN 'completed'
                          ELSE 'cancelled' END AS state
        FROM unnest(ids) AS n (id) LEFT JOIN "synk".job AS j ON j.id = n.id
        OFFSET 0
    ) AS d;

    IF lost IS NOT NULL THEN
        PERFORM "synk".job_sweep(lost);
    END IF;
    IF completed IS NOT NULL THEN
        PERFORM "synk".job_release(completed);
    END IF;
END $$;

ALTER FUNCTION synk.job_settle(ids bigint[]) OWNER TO synk_owner;

CREATE FUNCTION synk.job_settle_noted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
DECLARE
    noted bigint[];
BEGIN
    PERFORM FROM "synk".settling AS s WHERE s.xact = NEW.xact AND s.n = NEW.n;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    WITH taken AS (
        DELETE FROM "synk".settling AS s WHERE s.xact = NEW.xact RETURNING s.ids
    )
    SELECT array_agg(DISTINCT named.id) INTO noted
    FROM taken AS t CROSS JOIN unnest(t.ids) AS named (id);
    PERFORM "synk".job_settle(noted);
    RETURN NULL;
END $$;

ALTER FUNCTION synk.job_settle_noted() OWNER TO synk_owner;

CREATE FUNCTION synk.job_sweep(ended bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
                SELECT t.dependency, t.dependent FROM "synk".tie AS t WHERE t.dependency = e.id OFFSET 0
            ) AS t
            LIMIT room
        ), held AS MATERIALIZED (
            SELECT j.id FROM "synk".job AS j
            WHERE j.id = ANY (ARRAY(SELECT f.dependent FROM found AS f))
            ORDER BY j.id FOR NO KEY UPDATE
        ), gone AS (
            DELETE FROM "synk".tie AS t USING found AS f
            WHERE t.dependency = f.dependency AND t.dependent = f.dependent
              AND (SELECT count(*) FROM held) >= 0
            RETURNING t.dependent
        ), cancelled AS (
            UPDATE "synk".job AS j
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
        PERFORM "synk".job_leave(ended);
    END IF;
END $$;

ALTER FUNCTION synk.job_sweep(ended bigint[]) OWNER TO synk_owner;

CREATE FUNCTION synk.job_tie_anew(job_id bigint, dependencies bigint[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
DECLARE
    lost record;
    unmet integer;
BEGIN
    PERFORM FROM "synk".job AS j WHERE j.id = ANY (dependencies) ORDER BY j.id FOR NO KEY UPDATE;

    SELECT d.id, j.state INTO lost
    FROM unnest(dependencies) AS d (id)
    LEFT JOIN "synk".job AS j ON j.id = d.id
    WHERE j.state = 'cancelled' OR j.id IS NULL AND NOT "synk".job_has_completed(d.id)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'job % depends on %, which %', job_id, lost.id,
            CASE WHEN lost.state IS NULL THEN 'is gone and never completed'
                 ELSE 'is cancelled: make that available first' END
            USING ERRCODE = 'SY003', DETAIL = lost.id::text;
    END IF;

    UPDATE "synk".job AS j SET has_dependents = true
    WHERE j.id = ANY (dependencies) AND j.state <> 'completed';
    DELETE FROM "synk".tie AS t WHERE t.dependent = job_id;
    INSERT INTO "synk".tie (dependency, dependent)
    SELECT j.id, job_id FROM "synk".job AS j WHERE j.id = ANY (dependencies) AND j.state <> 'completed';
    GET DIAGNOSTICS unmet = ROW_COUNT;
    RETURN unmet;
END $$;

ALTER FUNCTION synk.job_tie_anew(job_id bigint, dependencies bigint[]) OWNER TO synk_owner;

CREATE FUNCTION synk.retry(job_id bigint) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    target record;
BEGIN
    SELECT j.state, j.owner INTO target FROM "synk".job AS j WHERE j.id = job_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'gone';
    ELSIF target.state IN ('available', 'pending') OR target.owner IS NOT NULL THEN
        RETURN 'refused';
    END IF;
    UPDATE "synk".job AS j
    SET state = 'available', scheduled_at = clock_timestamp(), cancel_requested_at = NULL,
        result = NULL, duration_us = NULL, cpu_us = NULL, system_us = NULL, peak_rss_bytes = NULL,
        pid = NULL, crashes = 0, lost = 0, output = NULL, progress = NULL
    WHERE j.id = job_id;
    RETURN CASE WHEN target.state = 'running' THEN 'taken' ELSE 'applied' END;
EXCEPTION WHEN SQLSTATE 'SY003' THEN
    RETURN 'blocked';
END $$;

ALTER FUNCTION synk.retry(job_id bigint) OWNER TO synk_owner;

CREATE FUNCTION synk.unsettled_after_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    INSERT INTO "synk".settling (ids) SELECT array_agg(t.id) FROM taken AS t HAVING count(*) > 0;
    RETURN NULL;
END $$;

ALTER FUNCTION synk.unsettled_after_delete() OWNER TO synk_owner;



CREATE TABLE synk.cleaned (
    only_row boolean DEFAULT true NOT NULL,
    cleaned_up_to bigint DEFAULT 0 NOT NULL,
    CONSTRAINT cleaned_only_row_check CHECK (only_row)
);

ALTER TABLE synk.cleaned OWNER TO synk_owner;

CREATE TABLE synk.client (
    id uuid NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    processes integer NOT NULL,
    queues text[] NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    stopped_at timestamp with time zone,
    slots jsonb DEFAULT '[]'::jsonb NOT NULL,
    errors jsonb DEFAULT '[]'::jsonb NOT NULL,
    ttl interval DEFAULT '00:00:30'::interval NOT NULL,
    lease_until timestamp with time zone DEFAULT now() NOT NULL,
    beat bigint DEFAULT 0 NOT NULL,
    dead_at timestamp with time zone,
    kinds text[]
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.0', autovacuum_vacuum_threshold='200');

ALTER TABLE synk.client OWNER TO synk_owner;

CREATE TABLE synk.completed (
    first bigint NOT NULL,
    last bigint NOT NULL,
    CONSTRAINT first_is_not_after_last CHECK ((first <= last))
)
WITH (autovacuum_vacuum_scale_factor='0.0', autovacuum_vacuum_threshold='1000');

ALTER TABLE synk.completed OWNER TO synk_owner;

CREATE TABLE synk.job (
    id bigint NOT NULL,
    name text NOT NULL,
    state synk.job_state DEFAULT 'available'::synk.job_state NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 7 NOT NULL,
    attempted_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    finalized_at timestamp with time zone,
    scheduled_at timestamp with time zone DEFAULT now() NOT NULL,
    depends_on bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    priority smallint DEFAULT 3 NOT NULL,
    args jsonb,
    attempted_by text[] DEFAULT '{}'::text[] NOT NULL,
    errors jsonb[] DEFAULT '{}'::jsonb[] NOT NULL,
    kind text NOT NULL,
    queue text DEFAULT 'default'::text NOT NULL,
    owner uuid,
    claim_seq bigint,
    uncounted integer DEFAULT 0 NOT NULL,
    acked_by uuid,
    acked_attempt integer,
    cancel_reason synk.cancel_reason,
    cancel_requested_at timestamp with time zone,
    held boolean DEFAULT false NOT NULL,
    waiting_on bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    has_dependents boolean DEFAULT false NOT NULL,
    result jsonb,
    duration_us bigint,
    cpu_us bigint,
    crashes integer DEFAULT 0 NOT NULL,
    system_us bigint,
    peak_rss_bytes bigint,
    pid integer,
    output text,
    progress jsonb,
    checkpoint jsonb,
    lost integer DEFAULT 0 NOT NULL,
    idempotency_key text,
    unmet integer DEFAULT 0 NOT NULL,
    CONSTRAINT args_size CHECK ((pg_column_size(args) <= 8388608)),
    CONSTRAINT attempt_is_not_negative CHECK (((attempt >= 0) AND ((uncounted >= 0) AND (uncounted <= attempt)))),
    CONSTRAINT cancel_reason_when_cancelled CHECK (((state = 'cancelled'::synk.job_state) = (cancel_reason IS NOT NULL))),
    CONSTRAINT counts_leave_room CHECK (((attempt <= 2000000000) AND ((crashes >= 0) AND (crashes <= 1000000)) AND ((lost >= 0) AND (lost <= 1000000)))),
    CONSTRAINT ends_can_be_read CHECK (((finalized_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (finalized_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (cancel_requested_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (cancel_requested_at < '10000-01-01 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT finalized_at_when_final CHECK (((state = ANY (ARRAY['completed'::synk.job_state, 'cancelled'::synk.job_state])) = (finalized_at IS NOT NULL))),
    CONSTRAINT idempotency_key_length CHECK (((char_length(idempotency_key) >= 1) AND (char_length(idempotency_key) <= 255))),
    CONSTRAINT kind_length CHECK (((char_length(kind) >= 1) AND (char_length(kind) <= 127))),
    CONSTRAINT lists_are_flat CHECK (((array_ndims(errors) = 1) AND (array_ndims(attempted_by) = 1))),
    CONSTRAINT max_attempts_is_positive CHECK ((max_attempts > 0)),
    CONSTRAINT name_length CHECK (((char_length(name) >= 1) AND (char_length(name) <= 127))),
    CONSTRAINT owner_when_running CHECK ((((owner IS NULL) = (claim_seq IS NULL)) AND ((owner IS NULL) OR (state = 'running'::synk.job_state)))),
    CONSTRAINT priority_in_range CHECK (((priority >= 1) AND (priority <= 4))),
    CONSTRAINT queue_length CHECK (((char_length(queue) >= 1) AND (char_length(queue) <= 127))),
    CONSTRAINT times_can_be_read CHECK (((created_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (created_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (scheduled_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (scheduled_at < '10000-01-01 00:00:00+00'::timestamp with time zone) AND (attempted_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (attempted_at < '10000-01-01 00:00:00+00'::timestamp with time zone)))
)
WITH (autovacuum_vacuum_scale_factor='0.0', autovacuum_vacuum_threshold='20000', autovacuum_vacuum_insert_scale_factor='0.05', autovacuum_vacuum_cost_limit='2000', autovacuum_vacuum_cost_delay='1', autovacuum_analyze_scale_factor='0.05', autovacuum_analyze_threshold='20000');

ALTER TABLE synk.job OWNER TO synk_owner;

ALTER TABLE synk.job ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME synk.job_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE synk.migration (
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE synk.migration OWNER TO synk_owner;

CREATE UNLOGGED TABLE synk.settling (
    n bigint NOT NULL,
    xact xid8 DEFAULT pg_current_xact_id() NOT NULL,
    ids bigint[] NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.0', autovacuum_vacuum_threshold='1000');

ALTER TABLE synk.settling OWNER TO synk_owner;

ALTER TABLE synk.settling ALTER COLUMN n ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME synk.settling_n_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE synk.stack_question (
    id bigint NOT NULL,
    owner uuid NOT NULL,
    job_id bigint NOT NULL,
    asked_at timestamp with time zone DEFAULT now() NOT NULL,
    answer text
);

ALTER TABLE synk.stack_question OWNER TO synk_owner;

ALTER TABLE synk.stack_question ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME synk.stack_question_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE synk.tie (
    dependency bigint NOT NULL,
    dependent bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.0', autovacuum_vacuum_threshold='20000');

ALTER TABLE synk.tie OWNER TO synk_owner;

CREATE TABLE synk.unsettled (
    id bigint NOT NULL
);

ALTER TABLE synk.unsettled OWNER TO synk_owner;

INSERT INTO synk.cleaned VALUES (true, 0);

INSERT INTO synk.migration VALUES (0, 'schema', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (1, 'jobs', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (2, 'accounts', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (3, 'leases', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (4, 'roles', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (5, 'upkeep', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (6, 'bounds', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (7, 'dependencies', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (8, 'times', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (9, 'times_checked', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (10, 'belongings', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (11, 'bounds_hold', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (12, 'other_writers', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (13, 'completed', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (14, 'upkeep_of_ties', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (15, 'own_ends', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (16, 'keys', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (17, 'ties', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (18, 'ties_checked', '2026-11-27 12:00:00+00');
INSERT INTO synk.migration VALUES (19, 'known_kinds', '2026-11-27 12:00:00+00');

SELECT pg_catalog.setval('synk.job_id_seq', 1, false);

SELECT pg_catalog.setval('synk.settling_n_seq', 1, false);

SELECT pg_catalog.setval('synk.stack_question_id_seq', 1, false);

ALTER TABLE ONLY synk.cleaned
    ADD CONSTRAINT cleaned_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY synk.client
    ADD CONSTRAINT client_pkey PRIMARY KEY (id);

ALTER TABLE ONLY synk.completed
    ADD CONSTRAINT completed_pkey PRIMARY KEY (first);

ALTER TABLE ONLY synk.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (id);

ALTER TABLE ONLY synk.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (version);

ALTER TABLE ONLY synk.settling
    ADD CONSTRAINT settling_pkey PRIMARY KEY (xact, n);

ALTER TABLE ONLY synk.stack_question
    ADD CONSTRAINT stack_question_pkey PRIMARY KEY (id);

ALTER TABLE ONLY synk.tie
    ADD CONSTRAINT tie_pkey PRIMARY KEY (dependency, dependent);

ALTER TABLE ONLY synk.unsettled
    ADD CONSTRAINT unsettled_pkey PRIMARY KEY (id);

CREATE INDEX job_cancel_requested ON synk.job USING btree (owner) WHERE (cancel_requested_at IS NOT NULL);

CREATE INDEX job_claim ON synk.job USING btree (queue, priority, scheduled_at, id) WHERE (state = 'available'::synk.job_state);

CREATE INDEX job_due ON synk.job USING btree (scheduled_at) WHERE (state = 'scheduled'::synk.job_state);

CREATE INDEX job_final ON synk.job USING btree (state, finalized_at) WHERE (finalized_at IS NOT NULL);

CREATE UNIQUE INDEX job_idempotency_key ON synk.job USING btree (idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE INDEX job_owner ON synk.job USING btree (owner) WHERE (state = 'running'::synk.job_state);

CREATE INDEX stack_question_open ON synk.stack_question USING btree (owner) WHERE (answer IS NULL);

CREATE INDEX tie_dependent ON synk.tie USING btree (dependent);

CREATE TRIGGER job_after_delete AFTER DELETE ON synk.job REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION synk.job_after_delete();

CREATE TRIGGER job_after_end AFTER UPDATE OF state ON synk.job FOR EACH ROW WHEN ((new.has_dependents AND (new.state = ANY (ARRAY['completed'::synk.job_state, 'cancelled'::synk.job_state])) AND (old.state <> new.state) AND (new.cancel_reason IS DISTINCT FROM 'dependency'::synk.cancel_reason))) EXECUTE FUNCTION synk.job_after_end();

CREATE TRIGGER job_after_truncate AFTER TRUNCATE ON synk.job FOR EACH STATEMENT EXECUTE FUNCTION synk.job_after_truncate();

CREATE TRIGGER job_announce AFTER INSERT ON synk.job REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION synk.job_announce();

CREATE TRIGGER job_before_change BEFORE UPDATE OF state, attempt ON synk.job FOR EACH ROW WHEN (((NOT (new.owner IS DISTINCT FROM old.owner)) AND ((new.state <> old.state) OR (new.attempt < old.attempt)) AND (new.unmet = old.unmet))) EXECUTE FUNCTION synk.job_before_change();

CREATE TRIGGER job_before_insert BEFORE INSERT ON synk.job FOR EACH ROW WHEN (((new.state <> 'available'::synk.job_state) OR (new.scheduled_at > now()) OR (new.depends_on IS NULL) OR (new.depends_on <> '{}'::bigint[]))) EXECUTE FUNCTION synk.job_before_insert();

CREATE TRIGGER job_check_key BEFORE UPDATE OF idempotency_key ON synk.job FOR EACH ROW WHEN ((new.idempotency_key = old.idempotency_key)) EXECUTE FUNCTION synk.job_check_key();

CREATE TRIGGER job_depends AFTER INSERT ON synk.job REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION synk.job_depends();

CREATE TRIGGER job_depends_on_is_fixed BEFORE UPDATE OF depends_on ON synk.job FOR EACH ROW WHEN ((new.depends_on IS DISTINCT FROM old.depends_on)) EXECUTE FUNCTION synk.job_depends_on_is_fixed();

CREATE CONSTRAINT TRIGGER job_settle_noted AFTER INSERT ON synk.settling DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION synk.job_settle_noted();

CREATE TRIGGER unsettled_after_delete AFTER DELETE ON synk.unsettled REFERENCING OLD TABLE AS taken FOR EACH STATEMENT EXECUTE FUNCTION synk.unsettled_after_delete();

CREATE TRIGGER zz_job_note_key BEFORE INSERT ON synk.job FOR EACH ROW WHEN ((new.idempotency_key IS NOT NULL)) EXECUTE FUNCTION synk.job_note_key();

GRANT USAGE ON SCHEMA synk TO synk_supervisor;
GRANT USAGE ON SCHEMA synk TO synk_producer;
GRANT USAGE ON SCHEMA synk TO synk_viewer;

REVOKE ALL ON FUNCTION synk.job_after_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_after_end() FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_after_truncate() FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_announce() FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_before_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_before_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_depends() FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_has_completed(job_id bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_leave(ended bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_note_completed(ids bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_release(ended bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_settle(ids bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_settle_noted() FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_sweep(ended bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.job_tie_anew(job_id bigint, dependencies bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION synk.unsettled_after_delete() FROM PUBLIC;

GRANT SELECT,UPDATE ON TABLE synk.cleaned TO synk_supervisor;

GRANT SELECT ON TABLE synk.client TO synk_viewer;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE synk.client TO synk_supervisor;

GRANT SELECT ON TABLE synk.job TO synk_viewer;
GRANT SELECT,DELETE,UPDATE ON TABLE synk.job TO synk_supervisor;

GRANT SELECT(id) ON TABLE synk.job TO synk_producer;

GRANT INSERT(name) ON TABLE synk.job TO synk_producer;

GRANT INSERT(state) ON TABLE synk.job TO synk_producer;

GRANT INSERT(max_attempts) ON TABLE synk.job TO synk_producer;

GRANT INSERT(scheduled_at) ON TABLE synk.job TO synk_producer;

GRANT INSERT(depends_on) ON TABLE synk.job TO synk_producer;

GRANT INSERT(priority) ON TABLE synk.job TO synk_producer;

GRANT INSERT(args) ON TABLE synk.job TO synk_producer;

GRANT INSERT(kind) ON TABLE synk.job TO synk_producer;

GRANT INSERT(queue) ON TABLE synk.job TO synk_producer;

GRANT SELECT(idempotency_key),INSERT(idempotency_key),UPDATE(idempotency_key) ON TABLE synk.job TO synk_producer;

GRANT SELECT ON TABLE synk.migration TO synk_supervisor;
GRANT SELECT ON TABLE synk.migration TO synk_producer;
GRANT SELECT ON TABLE synk.migration TO synk_viewer;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE synk.stack_question TO synk_supervisor;

GRANT SELECT ON TABLE synk.tie TO synk_viewer;

GRANT SELECT,DELETE,UPDATE ON TABLE synk.unsettled TO synk_supervisor;
