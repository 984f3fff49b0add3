"""The database roles: each can do its work, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import synk
from support.jobs import handlers
from support.servers import Server
from support.supervising import ended, supervised

ROLES = ("producer", "supervisor", "viewer")


@pytest.fixture
def login(server: Server, connection: psycopg.Connection) -> Iterator[Callable[[str], str]]:
    """Gives the DSN of a login that has one of the roles."""
    made: list[str] = []

    def dsn_of(role: str) -> str:
        name = f"test_{role}_{connection.info.dbname[-12:]}"
        with connection.transaction():
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' IN ROLE {}").format(
                    sql.Identifier(name), sql.Identifier(f"synk_{role}")
                )
            )
        made.append(name)
        return make_conninfo(server.dsn, dbname=connection.info.dbname, user=name, password="x")

    yield dsn_of
    for name in made:
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@contextmanager
def client_of(dsn: str) -> Iterator[synk.Client]:
    with synk.Client(storage=synk.PostgresStorage(dsn)) as client:
        yield client


def refused(dsn: str, *statements: str) -> bool:
    """Whether each of the statements is refused for want of rights."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
    return True


def test_x5_a_producer_inserts_and_reads_nothing(login: Callable[[str], str]) -> None:
    dsn = login("producer")
    keyed = synk.InsertOptions(idempotency_key="k")
    with client_of(dsn) as client:
        first = client.insert("one", handlers.Noop(), keyed)
        assert client.insert("one", handlers.Noop(), keyed) == first
        with pytest.raises(synk.KeyReused, match=f"of job {first}, which is of another kind"):
            client.insert("one", handlers.Typed(2), keyed)
        after = synk.InsertOptions(depends_on=(first,))
        assert len(client.insert_many([("a", handlers.Noop(), after)] * 3)) == 3
        for on_conflict in ("skip", "replace"):
            unique = synk.Unique(by=(), on_conflict=on_conflict)
            options = synk.InsertOptions(unique=unique)
            found = client.insert_many([("a", handlers.Noop(), options)] * 2)
            assert found[0] == found[1]

    assert refused(
        dsn,
        "SELECT args FROM synk.job",
        "UPDATE synk.job SET state = 'cancelled'",
        "DELETE FROM synk.job",
        "INSERT INTO synk.job (kind, name, owner) VALUES ('k', 'n', gen_random_uuid())",
        "SELECT synk.cancel(1)",
        "SELECT * FROM synk.client",
        "SELECT * FROM synk.setting",
        "CREATE TABLE synk.mine ()",
    )


def test_x5_a_supervisor_runs_jobs_and_changes_no_schema(
    login: Callable[[str], str],
) -> None:
    dsn = login("supervisor")
    with psycopg.connect(dsn, autocommit=True) as own:
        own.execute("INSERT INTO synk.setting (scope, name, value) VALUES ('a', 'b', '1')")
        assert own.execute("SELECT number FROM synk.revision").fetchone() == (1,)
    with supervised(dsn) as client:
        first = client.insert("typed", handlers.Typed(2))
        after = client.insert("after", handlers.Noop(), synk.InsertOptions(depends_on=(first,)))
        failed = client.insert(
            "bad", handlers.Misbehave("raise_group"), synk.InsertOptions(max_retries=0)
        )
        assert ended(client, after).state is synk.JobState.COMPLETED
        assert ended(client, failed).state is synk.JobState.CANCELLED
        assert client.retry(failed) is synk.Change.APPLIED
        ended(client, failed)
        assert client.delete(failed) is synk.Change.APPLIED

    assert refused(
        dsn,
        "ALTER TABLE synk.job ADD COLUMN x int",
        "CREATE TABLE synk.mine ()",
        "TRUNCATE synk.job",
        "UPDATE synk.revision SET number = 0",
        "INSERT INTO synk.migration (version, name) VALUES (9999, 'x')",
    )


def test_x5_a_viewer_looks_and_changes_nothing(
    login: Callable[[str], str], storage: synk.PostgresStorage
) -> None:
    with synk.Client(storage=storage) as own:
        job_id = own.insert("one", handlers.Noop())
    dsn = login("viewer")
    with client_of(dsn) as client:
        row = client.get(job_id)
        assert row is not None
        assert client.storage.queue_depths().available == {"default": 1}
        assert len(client.storage.jobs(state=None, queue=None, kind=None, limit=5)) == 1
        with pytest.raises(synk.StorageError, match="permission denied"):
            client.cancel(job_id)
        with pytest.raises(synk.StorageError, match="permission denied"):
            client.insert("two", handlers.Noop())

    assert refused(dsn, "UPDATE synk.job SET name = 'x'", "DELETE FROM synk.client")


def test_x5_the_owner_owns_everything(connection: psycopg.Connection) -> None:
    others = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'synk'::regnamespace AND relkind = 'r'"
        " AND pg_get_userbyid(relowner) <> 'synk_owner'"
        " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'synk'::regnamespace"
        " AND pg_get_userbyid(proowner) <> 'synk_owner'"
    ).fetchall()

    assert others == []


def test_x4_functions_that_have_the_owners_rights_look_nowhere_else(
    connection: psycopg.Connection,
) -> None:
    loose = connection.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'synk'::regnamespace AND prosecdef"
        " AND NOT coalesce(proconfig, '{}') @> '{\"search_path=pg_catalog, pg_temp\"}'"
    ).fetchall()

    assert loose == []


def test_who_may_not_make_roles_can_still_migrate(server: Server, empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        name = f"test_plain_{connection.info.dbname[-12:]}"
        identifier = sql.Identifier(name)
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(identifier))
        connection.execute(
            sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, identifier)
        )
        dsn = make_conninfo(empty_dsn, user=name, password="x")
        try:
            with client_of(dsn) as client:
                client.storage.migrate()
                assert client.insert("one", handlers.Noop()) == 1
        finally:
            connection.execute("DROP SCHEMA synk CASCADE")
            connection.execute(sql.SQL("DROP OWNED BY {}").format(identifier))
            connection.execute(sql.SQL("DROP ROLE {}").format(identifier))
