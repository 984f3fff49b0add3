-- Removes supervisors that were not seen for a long time, and questions that nobody waits for.
WITH questions AS (
    DELETE FROM synk.stack_question AS q WHERE q.asked_at < now() - interval '1 hour'
)
DELETE FROM synk.client AS c WHERE c.seen_at < now() - interval '30 days'
