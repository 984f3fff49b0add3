            (%(state)s::synk.job_state IS NULL OR f.state = %(state)s::synk.job_state)
            AND (%(reason)s::synk.cancel_reason IS NULL OR f.cancel_reason = %(reason)s::synk.cancel_reason)
            AND f.id BETWEEN %(low)s AND %(high)s
            AND (%(since)s::timestamptz IS NULL
                 OR coalesce(f.finalized_at, f.created_at) >= %(since)s::timestamptz)
            AND coalesce(f.finalized_at, f.created_at) < %(until)s::timestamptz
            -- Of the last failed attempt: its cause, or the exception, with its module or without.
            AND (%(error)s::text IS NULL
                 OR f.errors[cardinality(f.errors)] ->> 'cause' = %(error)s::text
                 OR f.errors[cardinality(f.errors)] ->> 'type' = %(error)s::text
                 OR f.errors[cardinality(f.errors)] ->> 'type' LIKE %(error_like)s::text)
            AND
-- include: job_filters
