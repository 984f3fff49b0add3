    , coalesce(j.args, '{}')::text AS args,
    CASE WHEN j.attempt > 1 OR j.depends_on <> '{}' OR j.tags IS NOT NULL OR j.meta IS NOT NULL
           OR starts_with(j.idempotency_key, 'periodic:') THEN
        jsonb_build_object('attempted_by', to_jsonb(j.attempted_by),
                           'depends_on', to_jsonb(j.depends_on),
                           'errors', to_jsonb(j.errors),
                           'checkpoint', j.checkpoint,
                           'tags', to_jsonb(j.tags),
                           'meta', j.meta,
                           'key', j.idempotency_key)::text
    END AS history,
    j.crashes, date_part('epoch', j.start_before) AS start_before
