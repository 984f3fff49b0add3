-- Counts jobs of a filter, as far as it looks.
WITH
-- include: bulk_walked
SELECT jsonb_build_object('found', (SELECT count(*) FROM walked AS w WHERE NOT w.is_behind))::text AS answers,
       r.after_at, r.after_id
FROM (VALUES (1)) AS one (row) LEFT JOIN reached AS r ON true
