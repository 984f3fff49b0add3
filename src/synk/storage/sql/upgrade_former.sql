-- Makes of the tables that synk had before its first schema, in any of their versions 1 to 19, those
-- that 001_jobs.sql begins with: the same tables, so that rights, views and keys of others that lead to
-- them stay. In the transaction of all migrations, which leave the tables and indexes that are there as
-- they are, and put their functions and triggers in the place of those of before.
LOCK TABLE synk.job IN ACCESS EXCLUSIVE MODE;

-- What has a name of synk's that synk had not taken in that version is somebody else's.
DO $$
DECLARE
    noted integer := (SELECT max(m.version) FROM synk.migration AS m);
    other text := (
        SELECT min(n.name) FROM (VALUES
            (20, 'synk.periodic'), (20, 'synk.periodic_changed()'),
            (2, 'synk.client'), (2, 'synk.stack_question'), (2, 'synk.stack_question_open'),
            (2, 'synk.cancel(bigint)'), (3, 'synk.job_idempotency_key'),
            (3, 'synk.complete(bigint, integer, uuid, bigint, jsonb)'), (7, 'synk.link'),
            (7, 'synk.job_depends()'), (7, 'synk.job_release(bigint[])'),
            (7, 'synk.job_sweep(bigint[])'), (12, 'synk.job_unmet(bigint, bigint[])'),
            (12, 'synk.job_before_change()'), (12, 'synk.retry(bigint)'), (13, 'synk.completed'),
            (13, 'synk.job_has_completed(bigint)'), (13, 'synk.job_note_completed(bigint[])'),
            (13, 'synk.job_after_delete()'), (16, 'synk.job_note_key()'),
            (16, 'synk.job_check_key()'), (17, 'synk.tie'), (17, 'synk.tie_dependent'),
            (17, 'synk.settling'), (17, 'synk.unsettled'), (17, 'synk.job_leave(bigint[])'),
            (17, 'synk.job_settle(bigint[])'), (17, 'synk.job_settle_noted()'),
            (17, 'synk.unsettled_after_delete()'), (17, 'synk.job_after_truncate()'),
            (17, 'synk.job_tie_anew(bigint, bigint[])'), (20, 'synk.job_held'),
            (20, 'synk.job_untie(bigint[], integer)'), (20, 'synk.job_out_of_bounds()'), (20, 'synk.setting'), (20, 'synk.revision'),
            (20, 'synk.setting_changed()'), (20, 'synk.watched'), (20, 'synk.watched_at'),
            (20, 'synk.job_watch()'),
            (20, 'synk.job_claim_plain'), (20, 'synk.job_claim_keyed'),
            (20, 'synk.limit_key(text, text)'), (20, 'synk.permit'), (20, 'synk.permit_owner'),
            (20, 'synk.rate'), (20, 'synk.let_begin(text, integer, integer, interval)'),
            (20, 'synk.permit_freed()'), (20, 'synk.job_unique_key'),
            (20, 'synk.unique_scope(jsonb, timestamp with time zone)'),
            (20, 'synk.unique_key(text, text, jsonb, jsonb)'), (20, 'synk.job_enter_scope()'),
            (20, 'synk.job_change_scope()'), (20, 'synk.job_scope_is_fixed()'),
            (20, 'synk.unique_replace(text, text, jsonb, jsonb, timestamp with time zone, smallint, text)')
        ) AS n (version, name)
        WHERE n.version > noted AND CASE WHEN n.name LIKE '%)' THEN to_regprocedure(n.name)::oid
                                         ELSE to_regclass(n.name)::oid END IS NOT NULL);
BEGIN
    IF other IS NOT NULL THEN
        RAISE EXCEPTION '% is there, and was not made by synk: give it another name', other
            USING ERRCODE = 'SY003';
    END IF;
    -- It took from PUBLIC what everybody may call with his own rights.
    IF noted BETWEEN 4 AND 9 AND to_regprocedure('synk.make_roles()') IS NOT NULL THEN
        DROP FUNCTION synk.make_roles();
        GRANT EXECUTE ON FUNCTION synk.cancel(bigint),
            synk.complete(bigint, integer, uuid, bigint, jsonb) TO PUBLIC;
    END IF;
END $$;

-- Supervisors of before know no other schema: none may run. In version 1 they are not on record.
ALTER TABLE IF EXISTS synk.client
    SET (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 200),
    ADD COLUMN revision bigint NOT NULL DEFAULT 0,
-- columns of client
;
DO $$
BEGIN
    IF to_regclass('synk.client') IS NULL THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM synk.client AS c WHERE greatest(c.lease_until, c.seen_at + c.ttl) > now()
               AND c.stopped_at IS NULL AND c.dead_at IS NULL) THEN
        RAISE EXCEPTION 'supervisors run on this schema, which is of before the first one: stop them'
            USING ERRCODE = 'SY003';
    END IF;
END $$;

-- include: check_rows

-- What the cleaner removed counted as completed up to a mark, until version 13.
DO $$
BEGIN
    IF to_regclass('synk.completed') IS NULL THEN
        CREATE TABLE synk.completed (
            first bigint PRIMARY KEY,
            last  bigint NOT NULL,
            CONSTRAINT first_is_not_after_last CHECK (first <= last)
        );
        INSERT INTO synk.completed (first, last)
        SELECT gap.first, gap.last
        FROM (
            SELECT lag(known.id, 1, 0::bigint) OVER (ORDER BY known.id) + 1 AS first,
                   known.id - 1 AS last
            FROM (
                SELECT j.id FROM synk.job AS j CROSS JOIN synk.cleaned AS c
                WHERE j.id BETWEEN 1 AND c.cleaned_up_to
                UNION ALL
                SELECT c.cleaned_up_to + 1 FROM synk.cleaned AS c
            ) AS known
        ) AS gap
        WHERE gap.first <= gap.last;
    END IF;
    ALTER TABLE synk.completed SET (
        autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);
END $$;

-- What jobs wait for was in their own row, until version 17; it is empty from then on.
ALTER TABLE synk.job ADD COLUMN IF NOT EXISTS unmet integer NOT NULL DEFAULT 0;
CREATE TABLE IF NOT EXISTS synk.tie (
    dependency bigint NOT NULL,
    dependent  bigint NOT NULL,
    PRIMARY KEY (dependency, dependent)
);
INSERT INTO synk.tie (dependency, dependent)
SELECT DISTINCT w.id, j.id FROM synk.job AS j CROSS JOIN unnest(j.waiting_on) AS w (id)
WHERE j.waiting_on <> '{}' AND j.state = 'pending';
UPDATE synk.job AS j SET unmet = (SELECT count(DISTINCT w.id) FROM unnest(j.waiting_on) AS w (id))
WHERE j.waiting_on <> '{}' AND j.state = 'pending';

DROP TABLE IF EXISTS synk.cleaned, synk.link, synk.settling;
DROP TRIGGER IF EXISTS job_link ON synk.job;
DROP TRIGGER IF EXISTS job_before_change ON synk.job;  -- it looks at waiting_on
DROP FUNCTION IF EXISTS synk.job_link(), synk.job_release_if_ready(bigint, bigint[]),
    synk.job_unmet(bigint, bigint[]);

ALTER TYPE synk.cancel_reason ADD VALUE 'expired';
ALTER TYPE synk.cancel_reason ADD VALUE 'handler';
ALTER TABLE synk.job
    DROP CONSTRAINT IF EXISTS attempt_is_not_negative,
    DROP CONSTRAINT IF EXISTS max_attempts_is_positive,
    DROP CONSTRAINT IF EXISTS priority_in_range,
    DROP CONSTRAINT IF EXISTS name_length,
    DROP CONSTRAINT IF EXISTS kind_length,
    DROP CONSTRAINT IF EXISTS queue_length,
    DROP CONSTRAINT IF EXISTS finalized_at_when_final,
    DROP CONSTRAINT IF EXISTS owner_when_running,
    DROP CONSTRAINT IF EXISTS cancel_reason_when_cancelled,
    DROP CONSTRAINT IF EXISTS no_self_dependency,
    DROP CONSTRAINT IF EXISTS idempotency_key_length,
    DROP CONSTRAINT IF EXISTS times_can_be_read,
    DROP CONSTRAINT IF EXISTS ends_can_be_read,
    DROP CONSTRAINT IF EXISTS counts_leave_room,
    DROP CONSTRAINT IF EXISTS lists_are_flat,
    DROP CONSTRAINT IF EXISTS args_size,
    DROP COLUMN waiting_on,
    ADD COLUMN meta jsonb,
    ADD COLUMN tags text[],
-- columns of job
;

DELETE FROM synk.migration WHERE version > 0;
