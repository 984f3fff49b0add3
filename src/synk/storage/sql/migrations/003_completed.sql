-- Which jobs completed before they were removed, for ever: a job may still name them. What is neither
-- there nor here never completed: it was cancelled or deleted, or there was none.
--
-- Ranges of ids, which grow together as the jobs between them are removed. Nobody waits for anybody: a
-- neighbour that somebody else is at stays a range of its own until the next removal beside it.
CREATE TABLE synk.completed (
    first bigint PRIMARY KEY,
    last  bigint NOT NULL,
    CONSTRAINT first_is_not_after_last CHECK (first <= last)
) WITH (
    -- Vacuumed by the number of dead rows, not by their share.
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 1000
);


CREATE FUNCTION synk.job_has_completed(job_id bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT c.last >= job_id FROM synk.completed AS c
        WHERE c.first <= job_id ORDER BY c.first DESC LIMIT 1), false)
$$;


-- Notes jobs that are removed; each range that touches or meets others becomes one with them.
CREATE FUNCTION synk.job_note_completed(ids bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    firsts bigint[];
    lasts bigint[];
    near bigint[];
    near_lasts bigint[];
BEGIN
    SELECT array_agg(i.first), array_agg(i.last) INTO firsts, lasts
    FROM (
        SELECT min(n.id) AS first, max(n.id) AS last
        FROM (SELECT g.id, g.id - row_number() OVER (ORDER BY g.id) AS island
              FROM unnest(ids) AS g (id)) AS n
        GROUP BY n.island
    ) AS i;

    SELECT array_agg(held.first), array_agg(held.last) INTO near, near_lasts
    FROM (
        SELECT c.first, c.last FROM synk.completed AS c
        WHERE c.first = ANY (ARRAY(
            SELECT before.first
            FROM unnest(firsts) AS f (first)
            CROSS JOIN LATERAL (
                SELECT c.first, c.last FROM synk.completed AS c
                WHERE c.first <= f.first ORDER BY c.first DESC LIMIT 1
            ) AS before
            WHERE before.last >= f.first - 1
            UNION ALL
            SELECT behind.first
            FROM unnest(firsts, lasts) AS f (first, last)
            CROSS JOIN LATERAL (
                SELECT c.first FROM synk.completed AS c
                WHERE c.first > f.first AND c.first <= f.last + 1 OFFSET 0
            ) AS behind
        ))
        FOR UPDATE SKIP LOCKED
    ) AS held;
    DELETE FROM synk.completed AS c WHERE c.first = ANY (near);

    INSERT INTO synk.completed (first, last)
    SELECT min(part.first), max(part.last)
    FROM (
        SELECT marked.first, marked.last,
               count(*) FILTER (WHERE marked.is_new) OVER (ORDER BY marked.first, marked.last) AS n
        FROM (
            SELECT r.first, r.last, r.first > coalesce(max(r.last) OVER (
                       ORDER BY r.first, r.last ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                   ), r.first - 2) + 1 AS is_new
            FROM (SELECT * FROM unnest(firsts, lasts) AS f (first, last)
                  UNION ALL SELECT * FROM unnest(near, near_lasts) AS b (first, last)) AS r
        ) AS marked
    ) AS part
    GROUP BY part.n
    ON CONFLICT (first) DO UPDATE SET last = greatest(completed.last, excluded.last);
END $$;
