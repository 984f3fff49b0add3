                      tags, meta, start_before, keep, limit_key
