-- All running jobs of one supervisor, as a claim gives them but for what only a worker needs.
SELECT j.id, j.attempt, j.kind, j.priority, date_part('epoch', j.scheduled_at), j.max_attempts,
       j.uncounted, j.name, date_part('epoch', j.created_at), date_part('epoch', j.attempted_at),
       '{}', NULL, j.crashes, j.queue, j.claim_seq
FROM synk.job AS j
WHERE j.owner = %(owner)s AND j.state = 'running'
ORDER BY j.id
