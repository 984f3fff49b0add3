          tags, meta, start_before, start_within, keep, limit_name, limit_path
