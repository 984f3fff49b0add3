-- Notes which settings a supervisor works by, if these are the ones that hold at this moment. A number
-- alone would not do: a fail-over can lose changes, and others get their numbers then.
UPDATE synk.client AS c
SET revision = %(revision)s
FROM synk.revision AS r
WHERE c.id = %(owner)s AND r.number = %(revision)s AND %(text)s =
-- include: all_settings
