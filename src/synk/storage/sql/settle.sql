-- Goes on with up to %(limit)s jobs that have ended with more ties than one transaction settles. Who takes
-- one from the list has the table's rules settle the next of them when this commits.
WITH taken AS MATERIALIZED (
    SELECT u.id FROM synk.unsettled AS u ORDER BY u.id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
DELETE FROM synk.unsettled AS u USING taken AS t WHERE u.id = t.id
