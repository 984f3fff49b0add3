-- Of insert_many's rows: each column as it came, once or in each row.
SELECT coalesce(g.queue, %(queue)s), coalesce(g.kind, %(kind)s), g.args,
       coalesce(g.max_attempts, %(max_attempts)s::integer),
       coalesce(g.state, %(state)s::synk.job_state),
       coalesce(g.scheduled_at, %(scheduled_at)s::timestamptz, now()),
       coalesce(g.priority, %(priority)s::smallint), coalesce(g.name, %(name)s),
       coalesce(g.depends_on::bigint[], %(depends_on)s::bigint[])
