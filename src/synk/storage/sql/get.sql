SELECT j.id, j.name, j.kind, j.queue, j.state::text, j.priority, j.args::text, j.attempt, j.max_attempts,
       j.uncounted, j.created_at, j.scheduled_at, j.attempted_at, j.finalized_at, j.attempted_by,
       j.depends_on, j.waiting_on, to_jsonb(j.errors)::text, j.cancel_reason::text,
       j.cancel_requested_at, j.result::text, j.duration_us, j.cpu_us, j.system_us, j.peak_rss_bytes,
       j.pid, c.host, j.crashes, j.output, j.progress::text, j.checkpoint::text,
       j.lost, j.idempotency_key
FROM synk.job AS j
LEFT JOIN synk.client AS c ON c.id = coalesce(j.owner, j.acked_by)
WHERE j.id = ANY (%(ids)s)
ORDER BY j.id
