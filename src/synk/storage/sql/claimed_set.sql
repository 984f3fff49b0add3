SET state = 'running',
    -- The table's bound: a number may repeat there, the fence does not.
    attempt = least(j.attempt + 1, 2000000000),
    owner = %(owner)s,
    claim_seq = %(claim_seq)s,
    attempted_at = now(),
    progress = NULL,
    -- The last hundred, or a job that is tried for ever would weigh more and more.
    attempted_by = CASE WHEN cardinality(j.attempted_by) < 100 THEN j.attempted_by
                        ELSE j.attempted_by[cardinality(j.attempted_by) - 98:] END
                   || %(client_id)s::text
