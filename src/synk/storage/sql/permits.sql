-- The permits of one supervisor.
SELECT p.key, p.slot, p.claim_seq
FROM synk.permit AS p WHERE p.owner = %(owner)s ORDER BY p.key, p.slot
