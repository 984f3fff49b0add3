-- Removes supervisors that were not seen for a long time, questions that nobody waits for, and what is
-- known of rates that stands for nothing any more.
WITH questions AS (
    DELETE FROM synk.stack_question AS q WHERE q.asked_at < now() - interval '1 hour'
), rates AS (
    DELETE FROM synk.rate AS r WHERE r.ends < now()
)
DELETE FROM synk.client AS c WHERE c.seen_at < now() - interval '30 days'
