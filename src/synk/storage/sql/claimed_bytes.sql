               -- What a job weighs, by PostgreSQL's own form of it without compression.
               -- #> '{}' is the whole value, and errors || '{}' likewise.
               CASE WHEN pg_column_compression(j.args) IS NULL
                    THEN coalesce(pg_column_size(j.args), 0)
                    ELSE pg_column_size(j.args #> '{}') END
               + CASE WHEN j.attempt = 0 THEN 0
                      ELSE pg_column_size(j.errors || '{}')
                           + coalesce(pg_column_size(j.checkpoint #> '{}'), 0) END
               + coalesce(pg_column_size(j.meta), 0) AS bytes
