-- What an attempt used and said, how far it is, and who runs it.

ALTER TABLE synk.job
    -- Attempts that took their worker process with them; three are too many.
    ADD COLUMN crashes        integer NOT NULL DEFAULT 0,
    -- Of the last attempt. cpu_us has both parts, the user's and the kernel's.
    ADD COLUMN system_us      bigint,
    ADD COLUMN peak_rss_bytes bigint,
    ADD COLUMN pid            integer,
    ADD COLUMN output         text,
    -- What the handler noted last; the next attempt gets the checkpoint.
    ADD COLUMN progress       jsonb,
    ADD COLUMN checkpoint     jsonb;

-- One row for each start of a supervisor. Written about once a second while something runs, so it
-- has room for new versions of its row on the same page.
CREATE TABLE synk.client (
    id         uuid PRIMARY KEY,
    host       text NOT NULL,
    pid        integer NOT NULL,
    version    text NOT NULL,
    processes  integer NOT NULL,
    queues     text[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    stopped_at timestamptz,
    -- What each worker process does, for people to look at.
    slots      jsonb NOT NULL DEFAULT '[]',
    -- The last attempts that failed.
    errors     jsonb NOT NULL DEFAULT '[]'
) WITH (fillfactor = 50);

-- Somebody wants to know where a running job is in its code.
CREATE TABLE synk.stack_question (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner    uuid NOT NULL,
    job_id   bigint NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    answer   text
);
CREATE INDEX stack_question_open ON synk.stack_question (owner) WHERE answer IS NULL;


-- Cancels a job: at once where it is not running, else by a request that its supervisor grants.
-- Whatever waits behind it is cancelled by the table's trigger. Says 'applied', 'requested' (it
-- runs, and ends within the grace period), 'refused' (it was over) or 'gone'.
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
    ELSIF target.state = 'running' THEN
        UPDATE synk.job AS j SET cancel_requested_at = coalesce(j.cancel_requested_at, now())
        WHERE j.id = job_id;
        PERFORM pg_notify('synk.cancel', target.owner::text);
        RETURN 'requested';
    END IF;
    UPDATE synk.job AS j
    SET cancel_requested_at = coalesce(j.cancel_requested_at, now()), state = 'cancelled',
        finalized_at = now(), cancel_reason = 'requested', held = false, waiting_on = '{}'
    WHERE j.id = job_id;
    RETURN 'applied';
END $$;
