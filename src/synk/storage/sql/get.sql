-- include: job_columns
FROM synk.job AS j
LEFT JOIN synk.client AS c ON c.id = coalesce(j.owner, j.acked_by)
WHERE j.id = ANY (%(ids)s)
ORDER BY j.id
