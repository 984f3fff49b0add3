    jsonb_array_elements(%(args)s::jsonb), unnest(%(each_queue)s::text[]), unnest(%(each_kind)s::text[]),
    unnest(%(each_max_attempts)s::integer[]), unnest(%(each_state)s::synk.job_state[]),
    unnest(%(each_scheduled_at)s::timestamptz[]), unnest(%(each_priority)s::smallint[]),
    unnest(%(each_name)s::text[]), unnest(%(each_depends_on)s::text[])
