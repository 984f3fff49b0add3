-- All running jobs of one supervisor, as a claim gives them but for what only a worker needs.
SELECT
-- include: claimed_columns
    , '{}' AS args, NULL AS history, j.crashes, date_part('epoch', j.start_before) AS start_before, j.queue, j.claim_seq
FROM synk.job AS j
WHERE j.owner = %(owner)s AND j.state = 'running'
ORDER BY j.id
