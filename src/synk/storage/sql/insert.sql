-- Inserts one job. What its state really is (due or not, dependencies met or not) is decided by the
-- triggers of the table, the same for every writer.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on)
VALUES (
    %(queue)s, %(kind)s, %(args)s::jsonb, %(max_attempts)s, %(state)s::synk.job_state,
    coalesce(%(scheduled_at)s::timestamptz, now()), %(priority)s, %(name)s,
    %(depends_on)s::bigint[]
)
RETURNING id
