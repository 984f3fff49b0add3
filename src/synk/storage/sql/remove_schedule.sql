-- Removes a periodic job; the jobs that it has made stay.
WITH removed AS (
    DELETE FROM synk.periodic AS p WHERE p.name = %(name)s RETURNING p.name
)
SELECT CASE WHEN EXISTS (SELECT r.name FROM removed AS r) THEN 'applied' ELSE 'gone' END
