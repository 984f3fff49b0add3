-- Gives back those of the permits that are the owner's, as it took them, in the order of keys: whoever
-- takes several waits for one after the other. The table says that they are free.
WITH given AS MATERIALIZED (
    SELECT p.key, p.slot, p.claim_seq
    FROM unnest(%(keys)s::text[], %(slots)s::integer[], %(claim_seqs)s::bigint[])
        AS g (key, slot, claim_seq)
    JOIN synk.permit AS p ON p.key = g.key AND p.slot = g.slot
        AND p.owner = %(owner)s AND p.claim_seq = g.claim_seq
    ORDER BY p.key, p.slot
    FOR UPDATE OF p
)
DELETE FROM synk.permit AS p USING given AS g
WHERE p.key = g.key AND p.slot = g.slot AND p.owner = %(owner)s AND p.claim_seq = g.claim_seq
