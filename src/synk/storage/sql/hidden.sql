-- Which of synk's tables may have rows that are not seen: by whoever asks, and by the owner, whose rights
-- the table's triggers have. Row-level security applies to that role, and no policy lets everything
-- through for one of the commands, r(ead), w(rite), d(elete). What is noted of migrations is only ever
-- read.
SELECT quote_ident(a.rolname) AS role, a.asks,
       array_agg(format('%%s.%%s', c.relnamespace::regnamespace, c.relname) ORDER BY c.relname) AS tables
FROM (
    SELECT r.oid, r.rolname, r.rolname = current_user AS asks, r.rolsuper OR r.rolbypassrls AS sees_all
    FROM pg_roles AS r
    WHERE r.rolname = current_user
       OR %(triggers)s AND r.oid = (SELECT j.relowner FROM pg_class AS j WHERE j.oid = to_regclass('synk.job'))
) AS a
JOIN pg_class AS c ON c.relnamespace = to_regnamespace('synk') AND c.relname = ANY (%(tables)s)
WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND NOT a.sees_all
  AND (c.relforcerowsecurity OR NOT pg_has_role(a.oid, c.relowner, 'USAGE'))
  AND has_any_column_privilege(a.oid, c.oid, 'SELECT')
  AND EXISTS (
    SELECT FROM unnest(CASE c.relname WHEN 'migration' THEN '{r}' ELSE %(commands)s END::"char"[]) AS needed
    CROSS JOIN LATERAL (
        SELECT bool_and(p.permissive OR p.lets_through) AND bool_or(p.permissive AND p.lets_through)
        FROM (
            SELECT l.polpermissive,
                   pg_get_expr(l.polqual, l.polrelid) = 'true'
                   AND coalesce(pg_get_expr(l.polwithcheck, l.polrelid), 'true') = 'true'
            FROM pg_policy AS l
            WHERE l.polrelid = c.oid AND l.polcmd IN ('*', needed)
              AND EXISTS (SELECT FROM unnest(l.polroles) AS r
                          WHERE r = 0 OR pg_has_role(a.oid, r, 'USAGE'))
        ) AS p (permissive, lets_through)
    ) AS found (all_seen)
    WHERE found.all_seen IS NOT TRUE
  )
GROUP BY a.rolname, a.asks
ORDER BY a.asks DESC
