-- Does to the next jobs of a filter what synk.retry does to one, in one go where nothing can keep a job
-- from it; what depends on others, is unique, or runs, goes by itself, and each does if one of them was in
-- the way.
WITH
-- include: bulk_walked
, wanted AS MATERIALIZED (
    SELECT w.id, w.state, w.owner, w.finalized_at,
           w.state IN ('completed', 'cancelled', 'scheduled') OR w.state = 'running' AND w.owner IS NULL
               AS can
    FROM walked AS w WHERE NOT w.is_behind
),
-- include: bulk_held
, together AS (
    UPDATE synk.job AS j
    SET state = 'available', scheduled_at = clock_timestamp(), cancel_requested_at = NULL,
        result = NULL, duration_us = NULL, cpu_us = NULL, system_us = NULL, peak_rss_bytes = NULL,
        pid = NULL, crashes = 0, lost = 0, output = NULL, progress = NULL,
        start_before = CASE WHEN j.start_before > clock_timestamp() THEN j.start_before END
    FROM held AS h
    WHERE j.id = h.id AND h.is_alone AND h.state <> 'running' AND NOT %(singly)s
    RETURNING 'applied' AS answer
), done AS MATERIALIZED (
    SELECT t.answer FROM together AS t
    UNION ALL
    SELECT synk.retry(h.id) FROM held AS h WHERE %(singly)s OR NOT h.is_alone OR h.state = 'running'
)
-- include: bulk_answers
