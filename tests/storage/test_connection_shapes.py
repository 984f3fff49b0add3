"""A connection of the caller's, and a pool's, is used whatever psycopg makes of rows and values."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

import synk
from support.jobs import handlers
from support.own_ends import OwnEnds
from support.servers import Server
from support.shapes import EVERYTHING, SHAPES, Subclass
from support.supervising import ended, program_env, supervised
from synk import JobState
from synk.attempt import Attempt
from synk.job import Job
from synk.status import client_id_of
from synk.storage import borrowing
from synk.storage.postgres import PostgresStorage
from synk.testing import StorageConformance
from synk.testing.making import OWNER, claim, insert

NAME = "тест 試 ✓"
LATER = datetime(2050, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=14)))
JOBS = 3_000
MANY = 6_000
"""More than one statement has."""


class InTable(Attempt):
    schema = "synk"


def claimed(storage: PostgresStorage) -> Job[Any]:
    insert(storage)
    (job,) = claim(storage)
    return Job(job, None, client_id_of(OWNER), InTable())


@pytest.fixture
def client(storage: PostgresStorage) -> synk.Client:
    return synk.Client(storage=storage)


@pytest.fixture(params=SHAPES)
def shaped(request: pytest.FixtureRequest, dsn: str) -> Iterator[psycopg.Connection[Any]]:
    options, change = SHAPES[request.param]
    with psycopg.connect(dsn, **options) as connection:
        change(connection)
        yield connection


def insert_all(client: synk.Client, connection: Any) -> list[int]:
    first = client.insert_tx(connection, NAME, handlers.Typed(1, [NAME]))
    return [
        first,
        client.insert_tx(
            connection,
            NAME,
            handlers.Noop(),
            synk.InsertOptions(
                scheduled_at=LATER, depends_on=(first,), idempotency_key=NAME, max_retries=0
            ),
        ),
        *client.insert_many(
            [
                (NAME, handlers.Noop(), synk.InsertOptions(queue="q", scheduled_at=LATER)),
                ("b", handlers.Typed(2, [NAME]), synk.InsertOptions(depends_on=(first,))),
            ],
            connection=connection,
        ),
        *client.insert_many(
            [
                ("again", handlers.Noop(), synk.InsertOptions(idempotency_key=NAME)),
                ("new", handlers.Noop(), synk.InsertOptions(idempotency_key="other")),
            ],
            connection=connection,
        ),
    ]


def test_a_connection_of_any_shape_takes_its_jobs_along(
    client: synk.Client, shaped: psycopg.Connection[Any]
) -> None:
    encoding = shaped.info.encoding
    insert_all(client, shaped)
    shaped.rollback()
    ids = insert_all(client, shaped)
    shaped.commit()

    assert shaped.info.encoding == encoding
    rows = [client.get(job_id) for job_id in ids]
    assert ids == [*sorted(ids[:4]), ids[1], ids[3] + 2]
    assert [row and row.name for row in rows] == [NAME, NAME, NAME, "b", NAME, "new"]
    assert rows[0] is not None
    assert rows[0].args == {"count": 1, "tags": [NAME]}
    assert rows[1] is not None
    assert rows[1].scheduled_at == LATER
    assert rows[3] is not None
    assert rows[3].depends_on == [ids[0]]
    assert len(client.storage.jobs()) == 5


def test_a_job_completes_on_a_connection_of_any_shape(
    storage: PostgresStorage, shaped: psycopg.Connection[Any]
) -> None:
    job = claimed(storage)
    job.complete_tx(shaped, {"said": NAME})
    shaped.rollback()
    assert storage.get([job.id])[0].state is JobState.RUNNING
    job.complete_tx(shaped, {"said": NAME})
    shaped.commit()
    with pytest.raises(synk.LeaseLost):
        job.complete_tx(shaped)

    assert storage.get([job.id])[0].result == {"said": NAME}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_awaited_connection_of_any_shape_does_too(
    storage: PostgresStorage, dsn: str, shape: str
) -> None:
    options, change = SHAPES[shape]
    if "cursor_factory" in options:
        name = f"Async{options['cursor_factory'].__name__}"
        options = {"cursor_factory": getattr(psycopg, name)}
    job = claimed(storage)

    async def use() -> list[int]:
        async with (
            synk.AsyncClient(storage=storage) as client,
            await psycopg.AsyncConnection.connect(dsn, **options) as connection,
        ):
            if shape == "adapters_of_its_own":
                change(connection)
            ids = [await client.insert_tx(connection, NAME, handlers.Typed(1, [NAME]))]
            ids += await client.insert_many([(NAME, handlers.Noop())] * MANY, connection=connection)
            await job.complete_tx_async(connection, NAME)
            return ids

    ids = asyncio.run(use())

    rows = storage.get([ids[0], ids[-1], job.id])
    assert [row.name for row in rows[1:]] == [NAME, NAME]
    assert rows[0].result == NAME
    assert len(ids) == MANY + 1


@pytest.mark.parametrize("autocommit", [True, False])
def test_jobs_in_several_statements_are_stored_all_or_none(
    client: synk.Client, dsn: str, autocommit: bool
) -> None:
    jobs = [("x", handlers.Noop(), synk.InsertOptions()) for _ in range(MANY)]
    bad = [*jobs[:-1], ("x", handlers.Noop(), synk.InsertOptions(depends_on=(10**9,)))]
    with psycopg.connect(dsn, autocommit=autocommit) as connection:
        for begun in ("SELECT 1", None):
            if begun is not None:
                connection.execute(begun)
            with pytest.raises(synk.UnknownDependency):
                client.insert_many(bad, connection=connection)
            # Nothing of them is left, and what was before can go on.
            connection.execute("SELECT 1")
            assert client.insert_many(jobs, connection=connection)
            connection.rollback()
    stored = client.storage.counts()

    assert stored == ({JobState.AVAILABLE: 2 * MANY} if autocommit else {})


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("prepare_threshold", [None, 0, 5])
def test_a_pipeline_of_the_callers_gets_its_ids(
    client: synk.Client, dsn: str, autocommit: bool, prepare_threshold: int | None
) -> None:
    with (
        psycopg.connect(
            dsn, autocommit=autocommit, prepare_threshold=prepare_threshold
        ) as connection,
        connection.pipeline(),
    ):
        one = connection.execute("SELECT 1")
        ids = insert_all(client, connection)
        ids += client.insert_many([("x", handlers.Noop())] * MANY, connection=connection)
        two = connection.execute("SELECT 2")
        assert (one.fetchone(), two.fetchone()) == ((1,), (2,))

    assert len(client.storage.get(ids)) == MANY + 5


@pytest.mark.parametrize("autocommit", [True, False])
def test_what_the_caller_sent_before_in_a_pipeline_fails_as_the_callers(
    client: synk.Client, dsn: str, autocommit: bool
) -> None:
    with psycopg.connect(dsn, autocommit=autocommit) as connection:
        with connection.pipeline():
            connection.execute("SELECT 1 / %s", (0,))
            with pytest.raises(psycopg.errors.DivisionByZero):
                client.insert_tx(connection, "x", handlers.Noop())
        connection.rollback()
        with connection.pipeline():
            with pytest.raises(synk.UnknownDependency):
                client.insert_tx(
                    connection, "x", handlers.Noop(), synk.InsertOptions(depends_on=(10**9,))
                )
            connection.rollback()
            client.insert_tx(connection, "kept", handlers.Noop())

    assert [row.name for row in client.storage.jobs()] == ["kept"]


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("encoding", ["utf8", "latin1"])
def test_a_pipeline_goes_on_after_a_failure(
    client: synk.Client, dsn: str, autocommit: bool, encoding: str
) -> None:
    unknown = synk.InsertOptions(depends_on=(10**9,))
    with (
        psycopg.connect(dsn, autocommit=autocommit, client_encoding=encoding) as connection,
        connection.pipeline(),
    ):
        before = connection.info.encoding
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / %s", (0,)).fetchone()
        if not autocommit:
            with pytest.raises(synk.ConfigurationError, match="roll it back first"):
                client.insert_tx(connection, "x", handlers.Noop())
            connection.rollback()
        with pytest.raises(synk.UnknownDependency):
            client.insert_tx(connection, "x", handlers.Noop(), unknown)
        connection.rollback()
        with connection.transaction():
            client.insert_tx(connection, NAME, handlers.Noop())
            with pytest.raises(synk.UnknownDependency):
                client.insert_many(
                    [("x", handlers.Noop())] * MANY + [("x", handlers.Noop(), unknown)],
                    connection=connection,
                )
            client.insert_tx(connection, NAME, handlers.Noop())
        assert connection.info.encoding == before

    assert [row.name for row in client.storage.jobs()] == [NAME, NAME]


def test_an_awaited_pipeline_does_the_same(client: synk.Client, dsn: str) -> None:
    async def use() -> list[int]:
        async with (
            synk.AsyncClient(storage=PostgresStorage(dsn)) as awaited,
            await psycopg.AsyncConnection.connect(dsn) as connection,
        ):
            async with connection.pipeline():
                await connection.execute("SELECT 1 / %s", (0,))
                with pytest.raises(psycopg.errors.DivisionByZero):
                    await awaited.insert_tx(connection, "x", handlers.Noop())
            await connection.rollback()
            async with connection.pipeline():
                await connection.execute("SELECT 1")
                ids = [await awaited.insert_tx(connection, "x", handlers.Noop())]
                ids += await awaited.insert_many(
                    [("x", handlers.Noop())] * MANY, connection=connection
                )
                return ids

    ids = asyncio.run(use())

    assert len(client.storage.get(ids)) == MANY + 1


def test_a_transaction_that_has_failed_is_told_in_one_line(
    client: synk.Client, storage: PostgresStorage, dsn: str
) -> None:
    job = claimed(storage)
    with psycopg.connect(dsn) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        for use in (
            lambda: client.insert_tx(connection, "x", handlers.Noop()),
            lambda: job.complete_tx(connection),
        ):
            with pytest.raises(synk.ConfigurationError, match="roll it back first") as caught:
                use()
            assert "\n" not in str(caught.value)
        connection.rollback()
        connection.read_only = True
        with pytest.raises(synk.ConfigurationError, match="read-only"):
            client.insert_tx(connection, "x", handlers.Noop())
        connection.read_only = None
        connection.execute("SET TRANSACTION READ ONLY")
        with pytest.raises(synk.StorageUnavailable, match="read-only"):
            client.insert_tx(connection, "x", handlers.Noop())
        connection.rollback()
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        client.insert_tx(connection, "kept", handlers.Noop())


def test_a_class_of_the_users_own_and_a_transaction_in_two_phases(
    client: synk.Client, dsn: str
) -> None:
    with Subclass.connect(dsn) as connection:
        connection.tpc_begin("synk-test")
        client.insert_many([("kept", handlers.Noop())] * MANY, connection=connection)
        connection.tpc_rollback()
        client.insert_tx(connection, "kept", handlers.Noop())

    assert client.storage.counts() == {JobState.AVAILABLE: 1}


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_connection_whose_server_went_away_is_told_from_one_that_was_closed(
    client: synk.Client, connection: psycopg.Connection, dsn: str, autocommit: bool
) -> None:
    with psycopg.connect(dsn, autocommit=autocommit) as lost:
        lost.execute("SELECT 1")
        connection.execute("SELECT pg_terminate_backend(%s)", (lost.info.backend_pid,))
        # What is committed by itself may have been stored.
        kind = synk.OutcomeUnknown if autocommit else synk.StorageUnavailable
        with pytest.raises(synk.StorageUnavailable) as caught:
            client.insert_tx(lost, "x", handlers.Noop())
        assert type(caught.value) is kind
        with pytest.raises(synk.StorageUnavailable, match="is broken"):
            client.insert_tx(lost, "x", handlers.Noop())
    with psycopg.connect(dsn) as closed:
        pass
    with pytest.raises(synk.ConfigurationError, match="is closed"):
        client.insert_tx(closed, "x", handlers.Noop())


def test_a_connection_in_the_middle_of_a_stream_is_told(
    client: synk.Client, storage: PostgresStorage, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(borrowing, "_BUSY_S", 0.05)
    job = claimed(storage)

    async def use() -> None:
        async with (
            synk.AsyncClient(storage=storage) as awaited,
            await psycopg.AsyncConnection.connect(dsn) as own,
        ):
            async for _ in own.cursor().stream("SELECT generate_series(1, 2)"):
                with pytest.raises(synk.StorageConflict, match="give another one"):
                    await awaited.insert_tx(own, "x", handlers.Noop())
            await awaited.insert_tx(own, "kept", handlers.Noop())

    with psycopg.connect(dsn) as own:
        for _ in own.cursor().stream("SELECT generate_series(1, 2)"):
            with pytest.raises(synk.StorageConflict, match="a stream or a COPY"):
                client.insert_tx(own, "x", handlers.Noop())
        with own.cursor().copy("COPY (SELECT 1) TO STDOUT") as copy:
            with pytest.raises(synk.StorageConflict, match="a stream or a COPY"):
                job.complete_tx(own)
            assert list(copy)
        client.insert_tx(own, "kept", handlers.Noop())
    asyncio.run(use())

    assert client.storage.counts() == {JobState.AVAILABLE: 2, JobState.RUNNING: 1}


def test_threads_may_share_a_connection(client: synk.Client, dsn: str) -> None:
    with psycopg.connect(dsn) as own, ThreadPoolExecutor(4) as threads:
        ids = list(threads.map(lambda _: client.insert_tx(own, "x", handlers.Noop()), range(100)))

    assert len(client.storage.get(ids)) == 100


def test_a_job_completes_through_a_cursor_of_any_kind(storage: PostgresStorage, dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        cursors: list[Any] = [psycopg.Cursor, psycopg.ClientCursor, psycopg.RawCursor]
        for make in cursors:
            job = claimed(storage)
            job.complete_tx(make(connection), {"said": NAME})
            connection.commit()
            assert storage.get([job.id])[0].result == {"said": NAME}


def test_trouble_names_the_callers_database(client: synk.Client, server: Server) -> None:
    with (
        server.database(migrated=False) as other,
        psycopg.connect(other) as connection,
        pytest.raises(synk.SchemaMismatch, match=connection.info.dbname),
    ):
        client.insert_tx(connection, "x", handlers.Noop())


# -- pools ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd_pool(server: Server) -> Iterator[ConnectionPool[Any]]:
    options, change = EVERYTHING
    with ConnectionPool(
        server.emptied(), kwargs=options, configure=change, min_size=1, open=True
    ) as pool:
        yield pool


class TestAPoolOfEveryShapeAtOnce(StorageConformance, OwnEnds):
    """The contract, through the oddest pool that there is."""

    @pytest.fixture
    def storage(self, server: Server, odd_pool: ConnectionPool[Any]) -> PostgresStorage:
        server.emptied()
        return PostgresStorage(odd_pool)


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_supervisor_runs_on_a_pool_of_every_shape_at_once(
    dsn: str, empty_dsn: str, autocommit: bool
) -> None:
    options, change = EVERYTHING
    options = {**options, "autocommit": autocommit}
    with ConnectionPool(empty_dsn, kwargs=options, configure=change, open=True) as pool:
        assert PostgresStorage(pool).migrate()
    with (
        ConnectionPool(dsn, kwargs=options, configure=change, min_size=1, open=True) as pool,
        supervised(dsn, storage=PostgresStorage(pool)) as client,
    ):
        ids = client.insert_many([(NAME, handlers.Typed(n, [NAME])) for n in range(JOBS)])
        row = ended(client, ids[-1])
        with pool.connection() as own:
            assert own.info.encoding == "ascii"

    assert row.name == NAME
    assert row.result == {"double": 2 * (JOBS - 1), "tags": [NAME], "attempt": 1}


def test_an_awaited_pool_of_every_shape_is_used_too(dsn: str) -> None:
    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        from support.shapes import otherwise

        await connection.execute("SET DateStyle = German")
        await connection.commit()
        otherwise(connection)

    async def use() -> synk.JobRow | None:
        options = {**EVERYTHING[0], "cursor_factory": psycopg.AsyncRawCursor}
        async with (
            AsyncConnectionPool(dsn, kwargs=options, configure=configure, open=False) as pool,
            synk.AsyncClient(storage=PostgresStorage(pool)) as client,
        ):
            ids = await client.insert_many([(NAME, handlers.Noop())] * MANY)
            await client.cancel(ids[0])
            async with pool.connection() as own:
                assert own.info.encoding == "ascii"
            return await client.get(ids[0])

    row = asyncio.run(use())

    assert row is not None
    assert (row.name, row.state) == (NAME, JobState.CANCELLED)


GLOBAL = """
import sys, json, psycopg, psycopg.types.json, synk
from support.jobs import handlers
from support.shapes import adapt_otherwise
from support.supervising import ended, supervised
adapt_otherwise(psycopg.adapters)
psycopg.types.json.set_json_dumps(lambda value: 'null')
psycopg.types.json.set_json_loads(lambda text: None)
with supervised(sys.argv[1]) as client:
    ids = client.insert_many([("x", handlers.Typed(n, ["y"])) for n in range(300)])
    row = ended(client, ids[-1])
    assert row.result["tags"] == ["y"], row
    assert row.created_at.tzinfo is not None
    client.storage.clients(__import__("datetime").timedelta(hours=1))[0].slots[0].slot
    client.storage.migrate()
    with psycopg.connect(sys.argv[1]) as connection:
        client.insert_tx(connection, "x", handlers.Noop())
    print("done")
"""


@pytest.mark.parametrize("implementation", ["binary", "python"])
def test_adapters_for_all_connections_are_not_synks(dsn: str, implementation: str) -> None:
    if implementation == "python" and find_library("pq") is None:
        pytest.skip("psycopg in Python needs a libpq of the system: apt-get install libpq5")
    done = subprocess.run(
        [sys.executable, "-c", GLOBAL, dsn],
        env=program_env(PSYCOPG_IMPL=implementation),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.endswith("done\n"), done.stderr
