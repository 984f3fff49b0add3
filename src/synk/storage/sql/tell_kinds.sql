-- Says which kinds a supervisor has workers for. Apart from its registration: the schema of the
-- version before has no place for it.
UPDATE synk.client AS c SET kinds = %(kinds)s::text[] WHERE c.id = %(id)s
