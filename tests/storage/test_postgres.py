"""What can be wrong with a connection, and what is told about it."""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import synk
from support import servers
from support.jobs import handlers
from synk.testing.making import insert, new_job, raised

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.servers import Server
    from synk.storage.postgres import PostgresStorage

CANARY: Final = "c4nary"


@pytest.fixture
def login_dsn(server: Server, dsn: str) -> Iterator[str]:
    """The test's database for a role with a password, which the server must ask for."""
    role = sql.Identifier(servers.LOGIN)
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(role))
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(CANARY)))
        yield make_conninfo(dsn, user=servers.LOGIN, password=CANARY)
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


def told(error: BaseException | None) -> str:
    """All that a log could show of an error, its causes included."""
    assert error is not None
    shown = "".join(traceback.format_exception(error))
    return f"{error} {error!r} {vars(error)} {shown}"


@pytest.mark.parametrize(
    "changed",
    [
        {"host": "127.0.0.1", "port": "9"},
        {"host": "/nowhere"},
        {"host": "no-such-host.invalid"},
        {"dbname": "no_such_database"},
    ],
    ids=str,
)
def test_an_unreachable_database_is_told_in_one_line(dsn: str, changed: dict[str, str]) -> None:
    storage = synk.PostgresStorage(make_conninfo(dsn, password=CANARY, **changed))

    error = raised(storage.ping)

    assert isinstance(error, synk.StorageUnavailable)
    assert "\n" not in str(error)
    assert storage.describe() in str(error)
    assert CANARY not in f"{told(error)} {storage!r}"


def test_x8_a_wrong_password_is_told_without_the_right_or_the_wrong_one(login_dsn: str) -> None:
    right = synk.PostgresStorage(login_dsn)
    wrong = synk.PostgresStorage(make_conninfo(login_dsn, password=CANARY[::-1]))

    error = raised(wrong.ping)

    if error is None or "permission denied" in str(error):
        wrong.close()
        pytest.skip("this server asks for no password")
    assert isinstance(error, synk.StorageUnavailable)
    assert "password authentication failed" in str(error)
    assert CANARY[::-1] not in f"{told(error)} {wrong!r}"
    refused = raised(right.ping)
    assert type(refused) is synk.StorageError
    assert "permission denied" in str(refused)
    assert CANARY not in f"{told(refused)} {right!r}"
    right.close()


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://user:{CANARY}%zz@host/db",
        f"host=h password=two {CANARY}",
        f"host=h password='{CANARY}",
        f"{CANARY}=1",
        f"postgresql://user:{CANARY}@[host/db",
    ],
)
def test_x8_what_is_no_dsn_is_refused_without_a_part_of_it(dsn: str) -> None:
    error = raised(lambda: synk.PostgresStorage(dsn))

    assert isinstance(error, synk.ConfigurationError)
    assert CANARY not in told(error)


def test_a_storage_without_a_dsn_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNK_DATABASE_URL", raising=False)

    with synk.Client(storage=synk.PostgresStorage()) as client:
        assert "no database" in repr(client)


def test_a_transaction_of_the_callers_is_left_open_and_takes_its_jobs_along(
    dsn: str, storage: PostgresStorage
) -> None:
    client = synk.Client(storage=storage)
    with psycopg.connect(dsn) as connection:
        for commits in (False, True):
            job_id = client.insert_tx(connection, "x", handlers.Noop())
            many = client.insert_many([("y", handlers.Noop())] * 3, connection=connection)
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
            assert client.get(job_id) is None
            (connection.commit if commits else connection.rollback)()
            assert len(storage.get([job_id, *many])) == (4 if commits else 0)


def test_a_connection_of_another_kind_is_refused(storage: PostgresStorage) -> None:
    with pytest.raises(synk.ConfigurationError, match=r"psycopg\.Connection"):
        storage.insert([new_job()], connection="connection")


def test_a_dependency_that_is_not_there_is_named(storage: PostgresStorage) -> None:
    with pytest.raises(synk.UnknownDependency, match="depends_on=4711: there is no such job"):
        insert(storage, depends_on=(4711,))


MANY = 10_000
"""Jobs whose insert takes several statements."""


@pytest.mark.parametrize("place", [0, MANY // 2, MANY - 1])
def test_of_many_jobs_none_is_stored_where_one_is_refused(
    storage: PostgresStorage, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [new_job()] * MANY
    jobs[place] = new_job(options=synk.InsertOptions(depends_on=(10**9,)))

    with pytest.raises(synk.UnknownDependency, match="depends_on=1000000000: there is no such"):
        storage.insert(jobs)

    assert storage.counts() == {}
    # The connection is as good as before.
    assert len(storage.insert([new_job()] * MANY)) == MANY
    assert caplog.records == []
    storage.close()


def test_a_value_that_the_table_refuses_is_an_invalid_job(storage: PostgresStorage) -> None:
    for job in (new_job(name="x" * 128), new_job(args='{"a": "\\u0000"}'), new_job(args="{")):
        with pytest.raises(synk.InvalidJob, match="job="):
            storage.insert([job])
        with pytest.raises(synk.InvalidJob, match="job="):
            storage.insert([new_job(), job])
    assert storage.counts() == {}
    storage.close()


def test_a_closed_storage_opens_again(storage: PostgresStorage) -> None:
    job_id = insert(storage)
    storage.close()

    assert [row.id for row in storage.get([job_id])] == [job_id]


def test_one_connection_without_threads_is_enough_for_one_that_asks(dsn: str) -> None:
    storage = synk.PostgresStorage(dsn)
    storage.connector.is_pooled = False
    threads = threading.active_count()

    first, second = _backend_of(storage), _backend_of(storage)
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", (first,))
    third = _backend_of(storage)
    storage.close()

    assert second == first != third
    assert threading.active_count() <= threads


def _backend_of(storage: PostgresStorage) -> int:
    assert storage.jobs() == []
    with storage.connector.connection() as connection:
        return connection.info.backend_pid
