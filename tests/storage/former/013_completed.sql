-- Which jobs completed before they were removed, for ever: a job may still name them. What is neither
-- there nor here never completed: it was cancelled or deleted, or there was none.
--
-- Ranges of ids, which grow together as the jobs between them are removed. Nobody waits for anybody: a
-- neighbour that somebody else is at stays a range of its own until the next removal beside it.

ALTER TABLE synk.job VALIDATE CONSTRAINT owner_when_running;

CREATE TABLE synk.completed (
    first bigint PRIMARY KEY,
    last  bigint NOT NULL,
    CONSTRAINT first_is_not_after_last CHECK (first <= last)
);

-- What the cleaner removed so far counted as completed, up to a mark.
INSERT INTO synk.completed (first, last)
SELECT gap.first, gap.last
FROM (
    SELECT lag(known.id, 1, 0::bigint) OVER (ORDER BY known.id) + 1 AS first, known.id - 1 AS last
    FROM (
        SELECT j.id FROM synk.job AS j JOIN synk.cleaned AS c ON c.only_row
        WHERE j.id BETWEEN 1 AND c.cleaned_up_to
        UNION ALL
        SELECT c.cleaned_up_to + 1 FROM synk.cleaned AS c WHERE c.only_row
    ) AS known
) AS gap
WHERE gap.first <= gap.last;


CREATE FUNCTION synk.job_has_completed(job_id bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT c.last >= job_id FROM synk.completed AS c
        WHERE c.first <= job_id ORDER BY c.first DESC LIMIT 1), false)
$$;


CREATE FUNCTION synk.job_note_completed(ids bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
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
        SELECT c.first, c.last FROM synk.completed AS c
        WHERE c.first = ANY (ARRAY(
            SELECT before.first
            FROM unnest(firsts) AS f (first)
            CROSS JOIN LATERAL (
                SELECT c.first, c.last FROM synk.completed AS c
                WHERE c.first <= f.first ORDER BY c.first DESC LIMIT 1
            ) AS before
            WHERE before.last >= f.first - 1
            UNION ALL
            SELECT behind.first
            FROM unnest(firsts, lasts) AS f (first, last)
            CROSS JOIN LATERAL (
                SELECT c.first FROM synk.completed AS c
                WHERE c.first > f.first AND c.first <= f.last + 1 OFFSET 0
            ) AS behind
        ))
        FOR UPDATE SKIP LOCKED
    ) AS held;
    DELETE FROM synk.completed AS c WHERE c.first = ANY (near);

    INSERT INTO synk.completed (first, last)
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


-- Jobs are gone: those that completed are noted, the others take along what waits for them.
CREATE FUNCTION synk.job_after_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    done bigint[];
    lost bigint[];
BEGIN
    SELECT array_agg(r.id) FILTER (WHERE r.state = 'completed'),
           array_agg(r.id) FILTER (WHERE r.state <> 'completed' AND r.has_dependents)
    INTO done, lost FROM removed AS r;
    IF done IS NOT NULL THEN
        PERFORM synk.job_note_completed(done);
    END IF;
    IF lost IS NOT NULL THEN
        PERFORM synk.job_sweep(lost);
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER job_after_delete ON synk.job;
CREATE TRIGGER job_after_delete AFTER DELETE ON synk.job
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION synk.job_after_delete();


-- As before, but for what counts as completed.
CREATE OR REPLACE FUNCTION synk.job_unmet(job_id bigint, dependencies bigint[]) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    lost record;
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
    WHERE j.id = ANY (dependencies) AND j.state <> 'completed' AND NOT j.has_dependents;
    RETURN ARRAY(
        SELECT d.id FROM unnest(dependencies) WITH ORDINALITY AS d (id, n)
        JOIN synk.job AS j ON j.id = d.id AND j.state <> 'completed' ORDER BY d.n);
END $$;

CREATE OR REPLACE FUNCTION synk.job_depends() RETURNS trigger
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

    INSERT INTO synk.link (dependencies) VALUES (dependencies);
    RETURN NULL;
END $$;

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

    SELECT array_agg(d.id) FILTER (WHERE d.is_completed),
           array_agg(d.id) FILTER (WHERE d.is_lost)
    INTO completed, lost
    FROM (
        SELECT n.id,
               CASE WHEN j.id IS NULL THEN synk.job_has_completed(n.id)
                    ELSE j.state = 'completed' END AS is_completed,
               CASE WHEN j.id IS NULL THEN NOT synk.job_has_completed(n.id)
                    ELSE j.state = 'cancelled' END AS is_lost
        FROM unnest(NEW.dependencies) AS n (id) LEFT JOIN synk.job AS j ON j.id = n.id
    ) AS d;

    IF lost IS NOT NULL THEN
        PERFORM synk.job_sweep(lost);
    END IF;
    IF completed IS NOT NULL THEN
        PERFORM synk.job_release(completed);
    END IF;
    DELETE FROM synk.link AS l WHERE l.id = NEW.id;
    RETURN NULL;
END $$;


DO $$
DECLARE
    owner name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c
                   WHERE c.oid = 'synk.job'::regclass);
    each text;
BEGIN
    FOREACH each IN ARRAY ARRAY[
        'synk.job_has_completed(bigint)', 'synk.job_note_completed(bigint[])',
        'synk.job_after_delete()'
    ] LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION ' || each || ' FROM PUBLIC';
        EXECUTE 'ALTER FUNCTION ' || each || ' OWNER TO ' || quote_ident(owner);
    END LOOP;
    EXECUTE 'ALTER TABLE synk.completed OWNER TO ' || quote_ident(owner);
END $$;
