-- What the jobs of an adopted table wait for, once there is a table of it (see adopt.sql).
INSERT INTO synk.tie (dependency, dependent)
SELECT d.dependency, d.id
FROM synk_dependencies AS d JOIN synk.job AS j ON j.id = d.id AND j.state = 'pending'
WHERE d.state IS NOT NULL
