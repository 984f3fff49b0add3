-- Does to the next jobs of a filter what delete.sql does to one.
WITH
-- include: bulk_walked
, wanted AS MATERIALIZED (
    SELECT w.id, w.state, w.owner, w.finalized_at, w.owner IS NULL AS can
    FROM walked AS w WHERE NOT w.is_behind
),
-- include: bulk_held
, done AS (
    DELETE FROM synk.job AS j USING held AS h WHERE j.id = h.id
    RETURNING CASE WHEN h.state = 'running' THEN 'taken' ELSE 'applied' END AS answer
)
-- include: bulk_answers
