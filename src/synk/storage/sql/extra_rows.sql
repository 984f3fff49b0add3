    , unnest(%(each_tags)s::text[]), unnest(%(each_meta)s::jsonb[]),
    unnest(%(each_start_before)s::timestamptz[]), unnest(%(each_start_within)s::interval[]),
    unnest(%(each_keep)s::interval[]), unnest(%(each_limit)s::text[]),
    unnest(%(each_limit_path)s::text[])
