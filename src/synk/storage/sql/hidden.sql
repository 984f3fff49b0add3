-- Which of synk's tables may have rows that whoever asks does not see: row-level security applies to
-- this role, and no policy lets everything through for one of the commands, r(ead), w(rite), d(elete).
-- What is noted of migrations is only ever read.
SELECT quote_ident(current_user),
       array_agg(format('%%s.%%s', c.relnamespace::regnamespace, c.relname) ORDER BY c.relname)
FROM pg_class AS c
WHERE c.relnamespace = to_regnamespace('synk') AND c.relname = ANY (%(tables)s)
  AND c.relkind IN ('r', 'p') AND row_security_active(c.oid)
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
              AND EXISTS (SELECT FROM unnest(l.polroles) AS r WHERE r = 0 OR pg_has_role(r, 'USAGE'))
        ) AS p (permissive, lets_through)
    ) AS found (all_seen)
    WHERE found.all_seen IS NOT TRUE
  )
