SELECT (SELECT jsonb_object_agg(a.answer, a.number)::text FROM (
            SELECT every.answer, count(*) AS number FROM (
                SELECT d.answer FROM done AS d
                UNION ALL
                SELECT CASE WHEN w.can THEN 'skipped' ELSE 'refused' END
                FROM wanted AS w WHERE w.id NOT IN (SELECT h.id FROM held AS h)
            ) AS every GROUP BY every.answer
        ) AS a) AS answers,
       r.after_at, r.after_id
FROM (VALUES (1)) AS one (row) LEFT JOIN reached AS r ON true
