"""A schema that others use too, and roles that may not do everything: synk touches what it made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import synk
from support import former
from support.jobs import handlers
from support.servers import MIGRATIONS, Server
from support.supervising import ended, supervised

APPLICATION: Final = """
CREATE TYPE {s}.mood AS ENUM ('good', 'bad');
CREATE DOMAIN {s}.percentage AS int CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE {s}.customer (id serial PRIMARY KEY, mood {s}.mood, share {s}.percentage);
CREATE VIEW {s}.customers AS SELECT * FROM {s}.customer;
CREATE SEQUENCE {s}.counter;
CREATE FUNCTION {s}.greet() RETURNS text LANGUAGE sql AS $$ SELECT 'hello' $$;
CREATE FUNCTION {s}.cancel(text) RETURNS text LANGUAGE sql AS $$ SELECT $1 $$;
CREATE PROCEDURE {s}.work() LANGUAGE sql AS $$ SELECT 1 $$;
CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA {s};
"""

OTHERS: Final = """
SELECT 'relation', relname, relowner::regrole::text, relacl::text FROM pg_class
WHERE relnamespace = to_regnamespace(%(s)s)
UNION ALL SELECT 'function', oid::regprocedure::text, proowner::regrole::text, proacl::text
FROM pg_proc WHERE pronamespace = to_regnamespace(%(s)s)
UNION ALL SELECT 'type', oid::regtype::text, typowner::regrole::text, typacl::text
FROM pg_type WHERE typnamespace = to_regnamespace(%(s)s)
UNION ALL SELECT 'schema', nspname, nspowner::regrole::text, (
    SELECT array_agg(a::text ORDER BY a::text)
    FROM unnest(coalesce(nspacl, acldefault('n', nspowner))) AS a
    WHERE a::text !~ '_(owner|supervisor|producer|viewer)=')::text
FROM pg_namespace WHERE oid = to_regnamespace(%(s)s)
UNION ALL SELECT 'default', defaclobjtype::text, defaclrole::regrole::text, defaclacl::text
FROM pg_default_acl
ORDER BY 1, 2
"""


@pytest.fixture(params=["server", "server15"])
def any_server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


class Logins:
    """Roles that log in to one database, dropped with all that is theirs afterwards."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.suffix = self.connection.info.dbname[-14:]
        self.made: list[str] = []
        self.expected: set[str] = set(self._roles())

    def run(self, text: str) -> None:
        self.connection.execute(text.encode())

    def login(self, name: str, options: str = "", attributes: str = "") -> str:
        role = f"{name}_{self.suffix}"
        self.run(f"CREATE ROLE {role} LOGIN PASSWORD 'x' {attributes}")
        if options:
            self.run(options.format(role=role, database=self.connection.info.dbname))
        return make_conninfo(self.dsn, user=role, password="x")

    def others(self, schema: str) -> set[tuple[object, ...]]:
        rows = self.connection.execute(OTHERS.encode(), {"s": schema}).fetchall()
        return set(rows)

    def _roles(self) -> list[str]:
        rows = self.connection.execute("SELECT rolname FROM pg_roles").fetchall()
        return [name for (name,) in rows]

    def close(self) -> None:
        for role in set(self._roles()) - self.expected:
            if role.startswith(("synk_owner", "synk_super", "synk_prod", "synk_view")):
                continue
            name = sql.Identifier(role)
            self.connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(name))
            self.connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
            self.connection.execute(sql.SQL("DROP ROLE {}").format(name))
        self.connection.close()


@pytest.fixture
def logins(any_server: Server) -> Iterator[Logins]:
    with any_server.database(migrated=False) as dsn:
        logins = Logins(dsn)
        yield logins
        logins.close()


def migrated(dsn: str, schema: str = "synk", *, roles: bool = True) -> list[str]:
    """Migrates; returns the lines that were told."""
    told: list[str] = []
    storage = synk.PostgresStorage(dsn, schema=schema)
    assert storage.migrate(roles=roles, tell=told.append) == MIGRATIONS
    assert storage.migrate(roles=False) == []
    storage.close()
    return told


def runs_a_job(dsn: str, schema: str = "synk") -> bool:
    storage = synk.PostgresStorage(dsn, schema=schema)
    with supervised(dsn, storage=storage, processes=1) as client:
        first = client.insert("one", handlers.Noop())
        after = client.insert("two", handlers.Noop(), synk.InsertOptions(depends_on=(first,)))
        return ended(client, after).state is synk.JobState.COMPLETED


@pytest.mark.parametrize("schema", ["public", "app"])
def test_nothing_of_an_application_in_the_same_schema_is_touched(
    logins: Logins, schema: str
) -> None:
    app = logins.login("app", "GRANT CREATE ON DATABASE {database} TO {role}")
    name = f"app_{logins.suffix}"
    if schema == "app":
        logins.run(f"CREATE SCHEMA app AUTHORIZATION {name}")
    logins.run(f"GRANT CREATE ON SCHEMA {schema} TO {name}")
    logins.run(
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {name} IN SCHEMA {schema} GRANT SELECT ON TABLES"
        f" TO {name}"
    )
    logins.run(APPLICATION.format(s=schema))
    logins.run(f"ALTER TABLE {schema}.customer OWNER TO {name}")
    before = logins.others(schema)

    assert migrated(logins.dsn, schema) == []

    assert before <= logins.others(schema)
    with psycopg.connect(app, autocommit=True) as connection:
        connection.execute(f"INSERT INTO {schema}.customer (mood) VALUES ('good')".encode())
        connection.execute(f"SELECT {schema}.greet()".encode())
        connection.execute(f"CREATE TABLE {schema}.another ()".encode())
    assert runs_a_job(logins.dsn, schema)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("CREATE TABLE app.job (id int)", "table job"),
        ("CREATE TABLE app.migration (version integer, filename text)", "table migration"),
        (
            "CREATE TABLE app.migration AS SELECT 1 AS version, 'a' AS name, now() AS applied_at",
            "table migration",
        ),
        ("CREATE VIEW app.client AS SELECT 1", "view client"),
        ("CREATE TYPE app.client AS ENUM ('a')", "type client"),
        ("CREATE DOMAIN app.job_state AS text", "type job_state"),
        ("CREATE SEQUENCE app.tie", "sequence tie"),
        ("CREATE TABLE app.t (i int); CREATE INDEX job_due ON app.t (i)", "index job_due"),
        (
            "CREATE FUNCTION app.cancel(bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "function cancel",
        ),
    ],
)
def test_a_name_that_the_application_has_taken_is_refused_before_anything_is_changed(
    empty_dsn: str, made: str, told: str
) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA app; {made}".encode())
        before = connection.execute(OTHERS.encode(), {"s": "app"}).fetchall()

        with pytest.raises(synk.ConfigurationError, match=f"{told}.*not made by synk"):
            synk.PostgresStorage(empty_dsn, schema="app").migrate()

        assert connection.execute(OTHERS.encode(), {"s": "app"}).fetchall() == before


def test_a_role_of_somebody_elses_with_a_name_of_synks_is_left_alone(logins: Logins) -> None:
    logins.run("CREATE SCHEMA app")
    logins.run("CREATE ROLE app_owner LOGIN")
    logins.run("CREATE ROLE app_viewer NOLOGIN")

    told = migrated(logins.dsn, "app")

    assert [line.partition(" and is")[0] for line in told] == [
        "role app_owner was not made by synk",
        "role app_viewer was not made by synk",
    ]
    given = logins.connection.execute(
        "SELECT has_schema_privilege('app_owner', 'app', 'USAGE'),"
        " has_table_privilege('app_viewer', 'app.job', 'SELECT'),"
        " has_table_privilege('app_supervisor', 'app.client', 'UPDATE'),"
        " (SELECT count(*) FROM pg_auth_members WHERE roleid = 'app_owner'::regrole)"
    ).fetchone()
    assert given == (False, False, True, 0)


PLAIN: Final[dict[str, Callable[[Logins], str]]] = {
    "the owner of a schema": lambda logins: logins.login(
        "plain", "CREATE SCHEMA synk AUTHORIZATION {role}"
    ),
    "a member of the owner": lambda logins: logins.login(
        "member",
        f"CREATE ROLE holder_{logins.suffix} NOLOGIN;"
        f"CREATE SCHEMA synk AUTHORIZATION holder_{logins.suffix};"
        f"GRANT holder_{logins.suffix} TO {{role}}",
    ),
    "who may create in the database": lambda logins: logins.login(
        "creator", "GRANT CREATE ON DATABASE {database} TO {role}"
    ),
}


@pytest.mark.parametrize("who", PLAIN)
def test_who_may_not_make_roles_migrates_and_is_told_the_sql_for_who_may(
    logins: Logins, who: str
) -> None:
    dsn = PLAIN[who](logins)
    (told,) = migrated(dsn)

    assert runs_a_job(dsn)
    assert "--no-roles" in told
    # What is printed does what was left.
    logins.run(told.partition(":\n")[2])
    assert synk.PostgresStorage(dsn).migrate(tell=pytest.fail) == []
    (owner,) = logins.connection.execute(
        "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'synk.job'::regclass"
    ).fetchone() or ("",)
    assert owner == "synk_owner"
    assert runs_a_job(dsn)


@pytest.mark.parametrize("version", [1, 14])
def test_whose_the_tables_of_before_the_first_schema_are_may_renew_them(
    logins: Logins, version: int
) -> None:
    dsn = PLAIN["the owner of a schema"](logins)
    former.make(dsn, version)
    other = logins.login("other", "GRANT USAGE, CREATE ON SCHEMA synk TO {role}")
    logins.run("GRANT SELECT ON synk.migration TO PUBLIC")

    with pytest.raises(synk.StorageError, match="may not change the tables of plain_"):
        synk.PostgresStorage(other).migrate()
    (told,) = migrated(dsn)

    assert "--no-roles" in told
    assert runs_a_job(dsn)


def test_without_roles_nobody_is_told_of_them_and_everything_works(logins: Logins) -> None:
    dsn = logins.login("alone", "CREATE SCHEMA alone AUTHORIZATION {role}")

    assert migrated(dsn, "alone", roles=False) == []

    assert runs_a_job(dsn, "alone")
    assert "alone_owner" not in logins._roles()


def test_who_may_make_roles_and_is_no_superuser_makes_them_all(logins: Logins) -> None:
    dsn = logins.login("maker", "ALTER DATABASE {database} OWNER TO {role}", "CREATEROLE")

    assert migrated(dsn, "made") == []

    owners = logins.connection.execute(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class"
        " WHERE relnamespace = 'made'::regnamespace"
    ).fetchall()
    assert owners == [("made_owner",)]
    assert runs_a_job(dsn, "made")


def test_one_refused_grant_takes_no_other_back(logins: Logins) -> None:
    """From PostgreSQL 16 on, who may make roles may not grant those of others."""
    logins.run("CREATE ROLE mine_viewer NOLOGIN; COMMENT ON ROLE mine_viewer IS 'synk: mine'")
    dsn = logins.login("maker", "ALTER DATABASE {database} OWNER TO {role}", "CREATEROLE")

    told = migrated(dsn, "mine")

    rights = logins.connection.execute(
        "SELECT has_table_privilege('mine_supervisor', 'mine.client', 'UPDATE'),"
        " has_table_privilege('mine_viewer', 'mine.job', 'SELECT'),"
        " has_column_privilege('mine_producer', 'mine.job', 'args', 'INSERT')"
    ).fetchone()
    assert rights == (True, True, True)
    if logins.connection.info.server_version >= 160000:
        assert len(told) == 1
        assert 'GRANT "mine_producer", "mine_viewer" TO "mine_supervisor";' in told[0]
    assert runs_a_job(dsn, "mine")


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("SELECT 1", 'CREATE SCHEMA "synk" AUTHORIZATION'),
        ("CREATE SCHEMA synk", 'GRANT USAGE, CREATE ON SCHEMA "synk" TO'),
    ],
)
def test_who_may_not_even_create_is_told_what_allows_it(
    logins: Logins, given: str, remedy: str
) -> None:
    dsn = logins.login("nobody", given)

    with pytest.raises(synk.StorageError, match="may not") as caught:
        synk.PostgresStorage(dsn).migrate()

    assert remedy in str(caught.value)
    logins.run(str(caught.value).partition("can allow it: ")[2])
    synk.PostgresStorage(dsn).migrate(tell=lambda _: None)
    assert runs_a_job(dsn)
