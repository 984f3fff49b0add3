-- Who runs jobs, and what may be asked of them.
--
-- Leases: a supervisor owns its running jobs for as long as it renews its lease. All times are this
-- server's; a supervisor only measures how long ago it sent the renewal.

-- One row for each start of a supervisor. Written about once a second while something runs, so it
-- has room for new versions of its row on the same page.
CREATE TABLE synk.client (
    id          uuid PRIMARY KEY,
    host        text NOT NULL,
    pid         integer NOT NULL,
    version     text NOT NULL,
    processes   integer NOT NULL,
    queues      text[] NOT NULL,
    -- The kinds that it has workers for; NULL: it did not say. A kind that waits and that nobody knows
    -- can be told of then.
    kinds       text[],
    -- The revision of the settings that it works by.
    revision    bigint NOT NULL DEFAULT 0,
    started_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    stopped_at  timestamptz,
    ttl         interval NOT NULL DEFAULT interval '30 seconds',
    lease_until timestamptz NOT NULL DEFAULT now(),
    -- Renewals so far: another supervisor that has seen the same number for a whole ttl of its own
    -- clock has a second opinion on this server's.
    beat        bigint NOT NULL DEFAULT 0,
    -- Another supervisor has declared it dead. Final, as stopped_at is: it never owns a job again.
    dead_at     timestamptz,
    -- What each worker process does, for people to look at.
    slots       jsonb NOT NULL DEFAULT '[]',
    -- The last attempts that failed.
    errors      jsonb NOT NULL DEFAULT '[]'
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 200
);

-- Somebody wants to know where a running job is in its code.
CREATE TABLE synk.stack_question (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner    uuid NOT NULL,
    job_id   bigint NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    answer   text
);
CREATE INDEX stack_question_open ON synk.stack_question (owner) WHERE answer IS NULL;


-- What follows has the rights of whoever calls it.

-- Cancels a job: at once where it is not running, else by a request that its supervisor grants.
-- Whatever waits behind it is cancelled by the table's trigger. Says 'applied', 'requested' (it
-- runs, and ends within the grace period), 'taken' (it ran without an owner, and whoever runs it
-- cannot be told), 'refused' (it was over) or 'gone'.
CREATE FUNCTION synk.cancel(job_id bigint) RETURNS text
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


-- Completes a running job in the caller's own transaction, if the attempt still owns it. What the
-- caller wrote and the job's end are then one: both are there, or neither. What an earlier attempt took
-- does not stand for this one, whose own account comes when it is over.
CREATE FUNCTION synk.complete(
    job_id bigint, job_attempt integer, job_owner uuid, job_claim_seq bigint, job_result jsonb
) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE synk.job AS j
    SET state = 'completed', finalized_at = now(), result = job_result, checkpoint = NULL,
        duration_us = NULL, cpu_us = NULL, system_us = NULL, peak_rss_bytes = NULL, pid = NULL,
        output = NULL,
        owner = NULL, claim_seq = NULL, acked_by = job_owner, acked_attempt = job_attempt
    WHERE j.id = job_id AND j.state = 'running' AND j.attempt = job_attempt
      AND j.owner = job_owner AND j.claim_seq = job_claim_seq;
    RETURN FOUND;
END $$;
