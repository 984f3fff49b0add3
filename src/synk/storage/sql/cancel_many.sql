-- Does to the next jobs of a filter what synk.cancel does to one.
WITH
-- include: bulk_walked
, wanted AS MATERIALIZED (
    SELECT w.id, w.state, w.owner, w.finalized_at, w.state NOT IN ('completed', 'cancelled') AS can
    FROM walked AS w WHERE NOT w.is_behind
),
-- include: bulk_held
, done AS MATERIALIZED (SELECT synk.cancel(h.id) AS answer FROM held AS h)
-- include: bulk_answers
