-- The permits of one supervisor.
SELECT p.key, p.slot FROM synk.permit AS p WHERE p.owner = %(owner)s ORDER BY p.key, p.slot
