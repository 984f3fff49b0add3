-- The open questions to one supervisor.
SELECT q.id AS question, q.job_id FROM synk.stack_question AS q
WHERE q.owner = %(owner)s AND q.answer IS NULL
