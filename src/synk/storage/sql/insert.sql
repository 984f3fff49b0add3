-- Inserts one job. What its state really is (due or not, dependencies met or not) is decided by the
-- triggers of the table, the same for every writer.
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name, depends_on,
                      idempotency_key)
VALUES (
    %(queue)s, %(kind)s, %(args)s::jsonb, %(max_attempts)s, %(state)s::synk.job_state,
    coalesce(%(scheduled_at)s::timestamptz, now()), %(priority)s, %(name)s,
    %(depends_on)s::bigint[], %(idempotency_key)s
)
-- The job that has this key already is found, and locked against its removal for an instant.
ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL
DO UPDATE SET idempotency_key = excluded.idempotency_key
RETURNING id
