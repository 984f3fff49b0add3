"""What migrations make is known by name, whatever it is: so that nothing else is touched."""

from __future__ import annotations

import psycopg
import pytest

from support.upgrades import BEFORE, later_code
from synk.storage import migrate
from synk.storage.made import made, named

DIRECTLY = """
SELECT CASE WHEN d.classid = 'pg_proc'::regclass
            THEN 'function ' || (SELECT p.proname || '(' || oidvectortypes(p.proargtypes) || ')'
                                 FROM pg_proc AS p WHERE p.oid = d.objid)
            ELSE i.type || ' ' || coalesce(i.name, i.identity) END
FROM pg_depend AS d CROSS JOIN pg_identify_object(d.classid, d.objid, d.objsubid) AS i
WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = 'synk'::regnamespace
  -- But for what belongs to a table: its identity's sequence.
  AND NOT EXISTS (SELECT FROM pg_depend AS o WHERE o.classid = d.classid AND o.objid = d.objid
                  AND o.deptype = 'i' AND o.refclassid = 'pg_class'::regclass)
"""
INDEXES = """
SELECT 'index ' || c.relname FROM pg_class AS c
WHERE c.relnamespace = 'synk'::regnamespace AND c.relkind = 'i'
  AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = c.oid AND k.contype <> 'f')
"""
TRIGGERS = """
SELECT DISTINCT 'table ' || t.tgrelid::regclass FROM pg_trigger AS t
JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND c.relnamespace <> 'synk'::regnamespace
"""
THEIRS = """
CREATE SCHEMA synk;
CREATE DOMAIN synk.width AS int;
CREATE VIEW synk.shown AS SELECT 1;
CREATE PROCEDURE synk.cancel() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE synk.total(int) (SFUNC = int4pl, STYPE = int);
CREATE SEQUENCE synk.numbers;
CREATE TABLE synk.theirs (id int);
CREATE FUNCTION synk.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER job_announce BEFORE INSERT ON synk.theirs EXECUTE FUNCTION synk.noted()
"""


@pytest.mark.parametrize("version", [1, BEFORE, BEFORE + 1, BEFORE + 5])
def test_all_that_migrations_make_is_known_by_name(empty_dsn: str, version: int) -> None:
    """Procedures, views and domains would be too; there are none. Triggers are their table's."""
    with later_code(), psycopg.connect(empty_dsn, autocommit=True) as connection:
        migrate.apply(connection, up_to=version, with_roles=False)
        found = {row[0] for query in (DIRECTLY, INDEXES) for row in connection.execute(query)}
        assert connection.execute(TRIGGERS).fetchall() == []

        known = made("synk", version)
    assert found == {f"{kind.lower()} {name}" for kind, name in known}


def test_whatever_else_is_in_the_schema_is_nobodys_business_of_synks(empty_dsn: str) -> None:
    """Of any kind, and under names like synk's where kinds have names of their own."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(THEIRS)
        before = {row[0] for row in connection.execute(DIRECTLY)}

        migrate.apply(connection, tell=lambda _: None)

        after = {row[0] for row in connection.execute(DIRECTLY)}
        connection.execute("INSERT INTO synk.job (kind, name) VALUES ('k', 'n')")
    things = made("synk", migrate.LATEST)
    assert before <= after
    assert len(after - before) == len(named(things, "TABLE", "TYPE", "FUNCTION"))
