-- An index on a table that may be large, and what needs it.
ALTER TABLE synk.job ADD COLUMN IF NOT EXISTS found_by varchar(50);
CREATE INDEX CONCURRENTLY IF NOT EXISTS job_remark ON synk.job (remark) WHERE remark IS NOT NULL;
-- From here on in one transaction.
DROP INDEX synk.reader_mood;
