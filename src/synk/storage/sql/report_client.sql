-- Says that a supervisor lives, and what its workers do.
INSERT INTO synk.client AS c (id, host, pid, version, processes, queues, slots, errors)
VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, %(processes)s, %(queues)s, %(slots)s::jsonb, %(errors)s::jsonb)
ON CONFLICT (id) DO UPDATE
SET seen_at = now(),
    slots = excluded.slots,
    errors = excluded.errors,
    stopped_at = CASE WHEN %(stopped)s THEN now() END
