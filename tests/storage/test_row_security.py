"""Row-level security on synk's tables: what it hides is told, and by whom it is seen."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import synk
from support.commands import run
from support.jobs import handlers
from support.servers import Server
from support.supervising import ended, make_client, opened, supervised, wait_until
from synk.storage import migrate
from synk.storage.script import script
from synk.testing.making import raised

OTHERS = "CREATE POLICY others ON synk.job USING (queue <> 'default')"
EACH = [
    f"CREATE POLICY all_{command} ON synk.job FOR {command} {clause} (true)"
    for command, clause in {
        "SELECT": "USING",
        "INSERT": "WITH CHECK",
        "UPDATE": "USING",
        "DELETE": "USING",
    }.items()
]


@pytest.fixture
def login(server: Server, connection: psycopg.Connection) -> Iterator[str]:
    """The DSN of a supervisor's login, which owns nothing."""
    name = f"hidden_{connection.info.dbname[-12:]}"
    role = sql.Identifier(name)
    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' IN ROLE synk_supervisor").format(role)
    )
    yield make_conninfo(server.dsn, dbname=connection.info.dbname, user=name, password="x")
    connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
    connection.execute(sql.SQL("DROP ROLE {}").format(role))


def secure(connection: psycopg.Connection, *statements: str, table: str = "job") -> None:
    connection.execute(f"ALTER TABLE synk.{table} ENABLE ROW LEVEL SECURITY".encode())
    for statement in statements:
        connection.execute(statement.encode())


@pytest.mark.parametrize("policies", [[], [OTHERS]])
def test_d29_a_supervisor_that_may_not_see_all_jobs_says_so_when_it_starts(
    login: str,
    connection: psycopg.Connection,
    policies: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="synk")
    secure(connection, *policies)
    role = conninfo_to_dict(login)["user"]

    with supervised(login):
        wait_until(lambda: "started" in caplog.text)

    (doubt,) = [line for line in caplog.messages if "row-level" in line]
    assert f"row-level security of synk.job applies to role {role}" in doubt
    assert f"ALTER ROLE {role} BYPASSRLS" in doubt


def test_d29_what_it_advises_is_enough(login: str, connection: psycopg.Connection) -> None:
    secure(connection)
    secure(connection, table="client")
    with opened(login) as storage:
        (told,) = storage.ping()
    assert "synk.client, synk.job" in told

    advice = told.partition("for each table ")[2]
    for table in ("synk.client", "synk.job"):
        connection.execute(advice.replace("synk.client", table).encode())

    with supervised(login) as client:
        assert client.storage.ping() == []
        assert ended(client, client.insert("x", handlers.Noop())).state is synk.JobState.COMPLETED


@pytest.mark.parametrize(
    ("statements", "is_told"),
    [
        (["CREATE POLICY p ON synk.job USING (true)"], False),
        (EACH, False),
        (EACH[:2], True),
        (["CREATE POLICY p ON synk.job TO synk_supervisor USING (true)", OTHERS], False),
        (["CREATE POLICY p ON synk.job TO synk_owner USING (true)"], True),
        (["CREATE POLICY p ON synk.job USING (true) WITH CHECK (queue = 'a')"], True),
        (
            [
                "CREATE POLICY p ON synk.job USING (true)",
                "CREATE POLICY q ON synk.job AS RESTRICTIVE USING (queue = 'a')",
            ],
            True,
        ),
    ],
)
def test_d29_policies_that_let_everything_through_are_no_trouble(
    login: str, connection: psycopg.Connection, statements: list[str], is_told: bool
) -> None:
    secure(connection, *statements)

    with opened(login) as storage:
        assert bool(storage.ping()) == is_told


@pytest.mark.parametrize("who", ["superuser", "bypass", "owner", "forced owner"])
def test_d29_who_sees_everything_is_told_nothing(
    login: str, dsn: str, connection: psycopg.Connection, who: str
) -> None:
    role = sql.Identifier(str(conninfo_to_dict(login)["user"]))
    secure(connection)
    if who == "bypass":
        connection.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(role))
    if "owner" in who:
        connection.execute(sql.SQL("ALTER TABLE synk.job OWNER TO {}").format(role))
    if who == "forced owner":
        connection.execute("ALTER TABLE synk.job FORCE ROW LEVEL SECURITY")

    with opened(dsn if who == "superuser" else login) as storage:
        assert bool(storage.ping()) == (who == "forced owner")
        assert bool(storage.hidden(from_readers=True)) == (who == "forced owner")
    connection.execute("ALTER TABLE synk.job OWNER TO CURRENT_USER")


def test_d29_what_the_triggers_of_the_table_do_not_see_is_told_too(
    login: str, connection: psycopg.Connection
) -> None:
    """They have its owner's rights, whom row-level security spares unless it is forced."""
    role = sql.Identifier("owner_" + str(conninfo_to_dict(login)["user"]))
    connection.execute(sql.SQL("CREATE ROLE {}").format(role))
    connection.execute(sql.SQL("ALTER TABLE synk.job OWNER TO {}").format(role))
    everything = "CREATE POLICY p ON synk.job TO synk_supervisor USING (true)"
    with opened(login) as storage:
        secure(connection, everything)
        assert storage.ping() == []

        secure(connection, "ALTER TABLE synk.job FORCE ROW LEVEL SECURITY")
        (told,) = storage.ping()
        assert storage.hidden(from_readers=True) == ""

        connection.execute(f"ALTER ROLE {role.as_string()} BYPASSRLS".encode())
        assert storage.ping() == []
    connection.execute("ALTER TABLE synk.job OWNER TO CURRENT_USER")
    connection.execute(sql.SQL("DROP ROLE {}").format(role))

    assert f"applies to role {role.as_string().strip(chr(34))}" in told
    assert "the table's triggers have its rights" in told


@pytest.mark.parametrize("table", ["completed", "settling"])
def test_d29_tables_that_only_the_triggers_use_are_no_trouble_while_their_owner_sees_them(
    login: str, connection: psycopg.Connection, table: str
) -> None:
    secure(connection, table=table)

    with opened(login) as storage:
        assert storage.ping() == []


def test_d29_migrations_that_are_hidden_are_not_taken_for_missing_ones(
    login: str, connection: psycopg.Connection
) -> None:
    secure(connection, table="migration")

    with opened(login) as storage:
        error = raised(storage.ping)

    assert isinstance(error, synk.SchemaMismatch)
    assert "row-level security of synk.migration" in str(error)
    assert "run `synk migrate`" not in str(error)


def test_d29_a_migration_fails_rather_than_leave_out_rows_that_it_does_not_see(
    login: str, server: Server
) -> None:
    """Of its owner too, where it is forced."""
    role = sql.Identifier(str(conninfo_to_dict(login)["user"]))
    with server.database(migrated=False) as dsn, psycopg.connect(dsn, autocommit=True) as admin:
        database = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(database, role))
        own = make_conninfo(login, dbname=admin.info.dbname)
        with psycopg.connect(own, autocommit=True) as connection:
            migrate.apply(connection, up_to=migrate.LATEST - 1, with_roles=False)
        secure(admin, "ALTER TABLE synk.migration FORCE ROW LEVEL SECURITY", table="migration")
        with opened(own) as storage:
            error = raised(lambda: storage.migrate(roles=False))
        with psycopg.connect(own, autocommit=True) as connection:
            by_hand = raised(lambda: connection.execute(script(with_roles=False).encode()))
        admin.execute(sql.SQL("DROP OWNED BY {}").format(role))

    for each in (error, by_hand):
        assert "would be affected by row-level security" in str(each)


def test_d29_an_insert_that_a_policy_refuses_is_no_invalid_job(
    login: str, connection: psycopg.Connection
) -> None:
    secure(connection, OTHERS)

    with opened(login) as storage, synk.Client(storage=storage) as client:
        one = raised(lambda: client.insert("x", handlers.Noop()))
        many = raised(lambda: client.insert_many([("x", handlers.Noop())] * 3))
        fine = client.insert("x", handlers.Noop(), synk.InsertOptions(queue="mine"))
        assert [row.id for row in storage.get([fine])] == [fine]

    for error in (one, many):
        assert type(error) is synk.StorageError
        assert "violates row-level security policy" in str(error)
    assert connection.execute("SELECT count(*) FROM synk.job").fetchone() == (1,)


@pytest.mark.parametrize(
    "command", [["jobs"], ["stats"], ["top", "--once"], ["job", "1"], ["cancel", "1"]]
)
def test_d29_a_reader_is_told_that_there_may_be_more_jobs(
    login: str, dsn: str, connection: psycopg.Connection, command: list[str]
) -> None:
    secure(connection, OTHERS)
    with make_client(dsn) as client:
        client.insert("x", handlers.Noop())

    shown = run(*command, dsn=login)

    assert "row-level security of synk.job applies to role hidden_" in shown.stderr
    assert shown.stderr.count("there may be more jobs than it sees") == 1
    if command == ["jobs"]:
        assert "row-level" not in run(*command, dsn=dsn).stderr
