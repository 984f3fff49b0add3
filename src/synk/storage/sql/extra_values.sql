       , g.tags::text[], g.meta, coalesce(g.start_before, now() + g.start_within), g.keep,
       -- Without a path, #>> would take all of the arguments.
       CASE WHEN g.limit_name IS NOT NULL THEN synk.limit_key(
           g.limit_name, CASE WHEN g.limit_path <> '{}' THEN g.args #>> g.limit_path::text[] END) END
