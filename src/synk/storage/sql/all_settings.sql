(SELECT coalesce(jsonb_agg(
        jsonb_build_object('scope', s.scope, 'name', s.name, 'value', s.value,
                           'changed_s', extract(epoch FROM s.changed_at))
        ORDER BY s.scope COLLATE "C", s.name COLLATE "C"), '[]')::text
 FROM synk.setting AS s)
