-- Inserts jobs in the order given and returns their ids in that order.
--
-- A column that is the same in all of them comes once, and its array is empty, which unnest() fills
-- up with NULL: most columns of most inserts. The arguments come as one JSON array, which is parsed
-- as a whole. depends_on comes as one array literal a job: an array of arrays could not be ragged.
-- What comes once is cast where it comes, once, and not in each row.
-- Jobs with an idempotency key go by insert_many_once.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on)
-- include: given_values
FROM ROWS FROM (
-- include: given_rows
) WITH ORDINALITY
    AS g (args, queue, kind, max_attempts, state, scheduled_at, priority, name, depends_on, n)
ORDER BY g.n
RETURNING id
