-- Makes things of every kind, and takes some away.
CREATE TYPE synk.mood AS ENUM ('good', 'bad');
CREATE TABLE synk.reader (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mood synk.mood NOT NULL
);
CREATE INDEX reader_mood ON synk.reader (mood);
CREATE FUNCTION synk.read(job_id bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO synk.reader (mood) VALUES ('good')
$$;
DROP TRIGGER job_remarked ON synk.job;
DROP FUNCTION synk.remarked();
