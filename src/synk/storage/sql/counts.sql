-- How many jobs there are in each state, by queue; NULL counts them all.
SELECT j.state::text AS state, count(*) AS count
FROM synk.job AS j
WHERE %(queue)s::text IS NULL OR j.queue = %(queue)s::text
GROUP BY j.state
