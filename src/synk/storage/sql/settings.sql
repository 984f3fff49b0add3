-- All settings, as one text, and the revision that they make up.
SELECT r.number AS revision,
-- include: all_settings
AS text
FROM synk.revision AS r
