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
