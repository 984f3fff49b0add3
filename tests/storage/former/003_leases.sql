-- Leases: a supervisor owns its running jobs for as long as it renews its lease. All times are this
-- server's; a supervisor only measures how long ago it sent the renewal.

ALTER TABLE synk.client
    ADD COLUMN ttl         interval NOT NULL DEFAULT interval '30 seconds',
    ADD COLUMN lease_until timestamptz NOT NULL DEFAULT now(),
    -- Renewals so far: another supervisor that has seen the same number for a whole ttl of its own
    -- clock has a second opinion on this server's.
    ADD COLUMN beat        bigint NOT NULL DEFAULT 0,
    -- Another supervisor has declared it dead. Final, as stopped_at is: it never owns a job again.
    ADD COLUMN dead_at     timestamptz;

ALTER TABLE synk.job
    -- Attempts whose supervisor was lost; three are too many.
    ADD COLUMN lost            integer NOT NULL DEFAULT 0,
    -- At most one job has it, so that a producer can repeat an insert whose answer it never got.
    ADD COLUMN idempotency_key text
        CONSTRAINT idempotency_key_length CHECK (char_length(idempotency_key) BETWEEN 1 AND 255);

CREATE UNIQUE INDEX job_idempotency_key ON synk.job (idempotency_key)
    WHERE idempotency_key IS NOT NULL;


-- Completes a running job in the caller's own transaction, if the attempt still owns it. What the
-- caller wrote and the job's end are then one: both are there, or neither.
CREATE FUNCTION synk.complete(
    job_id bigint, job_attempt integer, job_owner uuid, job_claim_seq bigint, job_result jsonb
) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE synk.job AS j
    SET state = 'completed', finalized_at = now(), result = job_result, checkpoint = NULL,
        owner = NULL, claim_seq = NULL, acked_by = job_owner, acked_attempt = job_attempt
    WHERE j.id = job_id AND j.state = 'running' AND j.attempt = job_attempt
      AND j.owner = job_owner AND j.claim_seq = job_claim_seq;
    RETURN FOUND;
END $$;
