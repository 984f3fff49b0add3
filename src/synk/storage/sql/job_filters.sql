(%(queue)s::text IS NULL OR f.queue = %(queue)s::text)
AND (%(kind)s::text IS NULL OR f.kind = %(kind)s::text)
AND (%(tags)s::text[] IS NULL OR f.tags @> %(tags)s::text[])
