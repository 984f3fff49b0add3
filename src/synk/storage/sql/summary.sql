-- What the jobs of each kind took, in microseconds, by queue; NULL takes them all.
SELECT j.kind,
       count(*) FILTER (WHERE j.state = 'completed'),
       count(*) FILTER (WHERE j.state = 'cancelled'),
       count(*) FILTER (WHERE j.cancel_reason IN ('failed', 'poison')),
       count(*) FILTER (WHERE j.state NOT IN ('completed', 'cancelled')),
       sum(cardinality(j.errors)),
       percentile_disc(0.5) WITHIN GROUP (ORDER BY j.duration_us),
       percentile_disc(0.95) WITHIN GROUP (ORDER BY j.duration_us),
       max(j.duration_us),
       sum(j.cpu_us),
       max(j.peak_rss_bytes)
FROM synk.job AS j
WHERE %(queue)s::text IS NULL OR j.queue = %(queue)s::text
GROUP BY j.kind
ORDER BY j.kind
