-- The rows of jobs that were found, the newest first.
-- include: listed_columns
, found.is_behind
FROM (SELECT n.id, n.is_behind FROM found AS n ORDER BY n.is_behind, n.id DESC LIMIT %(limit)s) AS found
JOIN synk.job AS j ON j.id = found.id
LEFT JOIN synk.client AS c ON c.id = coalesce(j.owner, j.acked_by)
ORDER BY j.id DESC
