-- Refused now, by the job's id, and not by a constraint in the end.
DO $$
DECLARE
    bad record;
BEGIN
    SELECT j.id, t.name, t.at INTO bad
    FROM synk.job AS j CROSS JOIN LATERAL (VALUES
        ('created_at', j.created_at), ('scheduled_at', j.scheduled_at),
        ('attempted_at', j.attempted_at), ('finalized_at', j.finalized_at)) AS t (name, at)
    WHERE NOT (t.at >= '0001-01-01 00:00:00+00' AND t.at < '10000-01-01 00:00:00+00')
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'job % has % = %, which synk cannot hold', bad.id, bad.name, bad.at
            USING ERRCODE = 'SY003';
    END IF;
    SELECT j.id INTO bad FROM synk.job AS j
    WHERE array_ndims(j.errors) > 1 OR array_ndims(j.attempted_by) > 1
       OR array_ndims(j.depends_on) > 1 OR j.attempt < 0 OR pg_column_size(j.args) > 8388608
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'job % has lists, counts or args that synk cannot hold', bad.id
            USING ERRCODE = 'SY003';
    END IF;
END $$;
