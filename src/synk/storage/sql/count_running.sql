-- How many jobs run, of one queue or all, for one supervisor or all.
SELECT count(*) FROM synk.job AS j
WHERE j.state = 'running'
  AND (%(queue)s::text IS NULL OR j.queue = %(queue)s)
  AND (%(owner)s::uuid IS NULL OR j.owner = %(owner)s)
