-- What the jobs of each kind took, in microseconds, by queue; NULL takes them all.
SELECT j.kind,
       count(*) FILTER (WHERE j.state = 'completed') AS completed,
       count(*) FILTER (WHERE j.state = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE j.cancel_reason IN ('failed', 'poison')) AS failed,
       count(*) FILTER (WHERE j.state NOT IN ('completed', 'cancelled')) AS unfinished,
       sum(cardinality(j.errors)) AS errors,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY j.duration_us) AS duration_p50,
       percentile_disc(0.95) WITHIN GROUP (ORDER BY j.duration_us) AS duration_p95,
       max(j.duration_us) AS duration_max,
       sum(j.cpu_us) AS cpu_time,
       max(j.peak_rss_bytes) AS peak_rss_bytes
FROM synk.job AS j
WHERE %(queue)s::text IS NULL OR j.queue = %(queue)s::text
GROUP BY j.kind
ORDER BY j.kind
