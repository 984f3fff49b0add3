-- Where migrations are noted. Applied first, and harmless to repeat.
CREATE SCHEMA IF NOT EXISTS synk;

CREATE TABLE IF NOT EXISTS synk.migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
