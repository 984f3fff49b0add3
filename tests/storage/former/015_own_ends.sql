-- As before; and what an earlier attempt took does not stand for this one, whose own account comes when
-- it is over: a row without a duration has none yet.
CREATE OR REPLACE FUNCTION synk.complete(
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
