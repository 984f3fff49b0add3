-- Resumes a periodic job: its ticks count from now on.
WITH target AS MATERIALIZED (
    SELECT p.name, p.paused_at FROM synk.periodic AS p WHERE p.name = %(name)s FOR NO KEY UPDATE
), changed AS (
    UPDATE synk.periodic AS p SET paused_at = NULL
    FROM target AS t WHERE p.name = t.name AND t.paused_at IS NOT NULL
    RETURNING p.name
)
SELECT CASE WHEN EXISTS (SELECT c.name FROM changed AS c) THEN 'applied'
            WHEN EXISTS (SELECT FROM target) THEN 'refused' ELSE 'gone' END
