-- Jobs by state, queue, kind and time, the newest first; a filter that is NULL lets everything through.
-- include: job_columns
FROM synk.job AS j
LEFT JOIN synk.client AS c ON c.id = coalesce(j.owner, j.acked_by)
WHERE (%(state)s::synk.job_state IS NULL OR j.state = %(state)s::synk.job_state)
  AND (%(queue)s::text IS NULL OR j.queue = %(queue)s::text)
  AND (%(kind)s::text IS NULL OR j.kind = %(kind)s::text)
  AND (%(since)s::timestamptz IS NULL
       OR coalesce(j.finalized_at, j.created_at) >= %(since)s::timestamptz)
  AND (%(age)s::interval IS NULL
       OR coalesce(j.finalized_at, j.created_at) >= now() - %(age)s::interval)
ORDER BY j.id DESC
LIMIT %(limit)s
