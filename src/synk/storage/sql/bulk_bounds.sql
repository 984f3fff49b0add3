-- What is there now: up to which id, and by which time.
SELECT clock_timestamp() AS now, coalesce(max(j.id), 1) AS highest FROM synk.job AS j
