-- Says of each outcome, in order, what became of it. Changes nothing.
SELECT CASE WHEN j.id IS NULL THEN 'gone'
            WHEN j.state = 'running' AND j.owner = %(owner)s AND j.attempt = g.attempt
                 AND j.claim_seq = g.claim_seq THEN 'locked'
            WHEN j.state = 'completed' AND j.acked_by = %(owner)s AND j.acked_attempt = g.attempt
                 AND j.attempt = g.attempt AND j.duration_us IS NULL THEN 'completed'
            WHEN j.acked_by = %(owner)s AND j.acked_attempt = g.attempt THEN 'duplicate'
            ELSE 'fenced' END
FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[], %(claim_seqs)s::bigint[])
    WITH ORDINALITY AS g (id, attempt, claim_seq, n)
LEFT JOIN synk.job AS j ON j.id = g.id
ORDER BY g.n
