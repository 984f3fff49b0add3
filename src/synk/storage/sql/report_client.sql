-- Says what a supervisor's workers do, and, once, that it has stopped.
UPDATE synk.client AS c
SET seen_at = now(),
    slots = %(slots)s::jsonb,
    errors = %(errors)s::jsonb,
    stopped_at = coalesce(c.stopped_at, CASE WHEN %(stopped)s THEN now() END)
WHERE c.id = %(id)s
