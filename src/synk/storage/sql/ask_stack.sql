-- Asks the supervisor of a running job where that is in its code; no row if it does not run.
WITH question AS (
    INSERT INTO synk.stack_question (owner, job_id)
    SELECT j.owner, j.id FROM synk.job AS j WHERE j.id = %(id)s AND j.owner IS NOT NULL
    RETURNING id, pg_notify('synk.cancel', owner::text)::text AS told
)
SELECT q.id FROM question AS q WHERE q.told IS DISTINCT FROM 'x'
