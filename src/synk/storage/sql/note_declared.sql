-- Notes that a supervisor declares periodic jobs, and forgets those that have ended since.
UPDATE synk.periodic AS p
SET declared_by = ARRAY(
    SELECT c.id FROM synk.client AS c
    WHERE c.id = ANY (p.declared_by) AND c.stopped_at IS NULL AND c.dead_at IS NULL
) || %(owner)s::uuid
WHERE p.name = ANY (%(names)s) AND (p.declared_by IS NULL OR %(owner)s <> ALL (p.declared_by))
