"""PostgresStorage and AsyncClient as psycopg's users meet them: pools, forks, errors, asyncio."""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg.rows import dict_row

import synk
from support.jobs import handlers
from support.servers import MIGRATIONS
from support.supervising import make_client, program_env
from synk import Change, JobState
from synk.storage import embedded, migrate
from synk.storage.async_postgres import AsyncPostgresStorage
from synk.storage.connecting import Connector, OneConnection, Pool


def test_making_a_storage_opens_nothing(connection) -> None:
    before = set(threading.enumerate())

    synk.PostgresStorage("postgresql://nobody:secret@127.0.0.1:9/none")

    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://u:canary@127.0.0.1:9/d", "database d at 127.0.0.1:9"),
        ("host=/nowhere dbname=d user=u password=canary", "database d at /nowhere:5432"),
    ],
)
def test_x8_an_unreachable_server_is_one_line_without_the_password(dsn: str, said: str) -> None:
    storage = synk.PostgresStorage(dsn)

    with pytest.raises(synk.StorageUnavailable) as caught:
        storage.ping()

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "canary" not in f"{caught.value} {caught.value!r} {storage!r} {storage.describe()}"


@pytest.mark.parametrize("target", ["nonsense", "postgresql://h/d?wrong=canary", 7])
def test_x8_what_is_no_dsn_is_refused_at_once(target) -> None:
    with pytest.raises(synk.ConfigurationError, match="storage=") as caught:
        synk.PostgresStorage(target)

    assert "canary" not in str(caught.value)


def test_no_dsn_at_all_is_told_at_the_first_use(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    monkeypatch.delenv("SYNK_DATABASE_URL", raising=False)
    storage = synk.PostgresStorage()
    with pytest.raises(synk.ConfigurationError, match="SYNK_DATABASE_URL"):
        storage.ping()

    monkeypatch.setenv("SYNK_DATABASE_URL", dsn)

    storage.ping()
    storage.close()


def test_a_newer_schema_is_refused(storage, connection) -> None:
    connection.execute("INSERT INTO synk.migration (version, name) VALUES (999, 'future')")

    with pytest.raises(synk.SchemaMismatch, match="upgrade synk"):
        storage.ping()
    with pytest.raises(synk.SchemaMismatch, match="upgrade synk"):
        storage.migrate()


def test_two_migrations_at_once_make_one_schema(empty_dsn: str) -> None:
    applied: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: applied.append(synk.PostgresStorage(empty_dsn).migrate()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # Each is applied once, whoever has the lock by then.
    assert len(applied) == 4
    assert sorted(name for names in applied for name in names) == MIGRATIONS


def test_the_latest_version_is_that_of_the_files() -> None:
    from synk.storage import sql

    assert sql.migrations()[-1][0] == migrate.LATEST


def test_a_pool_of_the_users_is_used_whatever_its_rows_look_like(dsn: str) -> None:
    kwargs = {"row_factory": dict_row}
    with psycopg_pool.ConnectionPool(dsn, kwargs=kwargs, min_size=1, open=True) as pool:
        storage = synk.PostgresStorage(pool)
        client = synk.Client(storage=storage)
        ids = client.insert_many([("x", handlers.Noop()), ("y", handlers.Noop())])
        client.cancel(ids[0])
        assert storage.counts() == {JobState.CANCELLED: 1, JobState.AVAILABLE: 1}
        client.close()
        assert not pool.closed


def _count_in_child(storage: synk.PostgresStorage, results) -> None:
    results.send(storage.counts())
    storage.close()


def test_a_storage_in_use_works_again_in_a_forked_child(dsn: str) -> None:
    storage = synk.PostgresStorage(dsn)
    client = synk.Client(storage=storage)
    client.insert("x", handlers.Noop())
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(
        target=_count_in_child, args=(storage, sender)
    )
    child.start()

    assert receiver.recv() == {JobState.AVAILABLE: 1}
    child.join()
    assert storage.counts() == {JobState.AVAILABLE: 1}
    storage.close()


def test_a_storage_outlives_its_connections(dsn: str, connection) -> None:
    with make_client(dsn) as client:
        client.insert("x", handlers.Noop())
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for _ in range(10):
            try:
                client.insert("y", handlers.Noop())
                break
            except synk.StorageUnavailable:
                continue

        assert client.storage.counts() == {JobState.AVAILABLE: 2}


def test_the_async_client_has_the_same_verbs(dsn: str) -> None:
    async def use() -> None:
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as client:
            held = await client.insert("a", handlers.Noop(), synk.InsertOptions(pending=True))
            one, two = await client.insert_many([("b", handlers.Noop()), ("c", handlers.Noop())])
            assert (one, two) == (held + 1, held + 2)
            assert await client.ready(held) is Change.APPLIED
            assert await client.cancel(one) is Change.APPLIED
            assert await client.retry(one) is Change.APPLIED
            assert await client.delete(two) is Change.APPLIED
            assert await client.get(two) is None
            row = await client.get(held)
            assert row is not None
            assert row.state is JobState.AVAILABLE
            with pytest.raises(synk.InvalidJob, match="name="):
                await client.insert("", handlers.Noop())

    asyncio.run(use())


def test_the_async_client_stores_many_jobs_in_their_order_or_none(dsn: str) -> None:
    async def use() -> None:
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as client:
            jobs = [(str(n), handlers.Noop(n), synk.InsertOptions()) for n in range(10_000)]
            ids = await client.insert_many(jobs)
            assert ids == list(range(ids[0], ids[0] + len(jobs)))
            rows = [await client.get(job_id) for job_id in (ids[0], ids[-1])]
            assert [row and row.name for row in rows] == ["0", "9999"]
            jobs[5_000] = ("x", handlers.Noop(), synk.InsertOptions(depends_on=(10**9,)))
            with pytest.raises(synk.UnknownDependency, match="depends_on=1000000000"):
                await client.insert_many(jobs)
            assert await client.insert("y", handlers.Noop()) > ids[-1]

    asyncio.run(use())
    with synk.Client(storage=synk.PostgresStorage(dsn)) as client:
        assert client.storage.counts() == {JobState.AVAILABLE: 10_001}


def test_an_async_transaction_takes_its_jobs_along(dsn: str) -> None:
    async def use() -> None:
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as client:
            async with await psycopg.AsyncConnection.connect(dsn) as connection:
                dropped = await client.insert_tx(connection, "dropped", handlers.Noop())
                await connection.rollback()
                kept = await client.insert_tx(connection, "kept", handlers.Noop())
                await connection.commit()
            assert await client.get(dropped) is None
            assert await client.get(kept) is not None
            with pytest.raises(synk.ConfigurationError, match="AsyncConnection"):
                await client.insert_tx(dsn, "x", handlers.Noop())

    asyncio.run(use())


def test_async_inserts_run_beside_each_other(dsn: str) -> None:
    async def use() -> list[int]:
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as client:
            return await asyncio.gather(
                *(client.insert(f"job {n}", handlers.Noop(n)) for n in range(50))
            )

    assert len(set(asyncio.run(use()))) == 50


def test_closing_one_storage_leaves_the_embedded_server_to_the_others() -> None:
    folder = Path(tempfile.mkdtemp(prefix="synk-shared-"))
    folder.chmod(0o755)
    one, other = (synk.PostgresStorage(f"embedded://{folder}/server") for _ in range(2))
    try:
        one.migrate()
        one.ping()
        other.ping()

        one.close()

        other.ping()
    finally:
        other.close()
        embedded.server_for(f"embedded://{folder}/server").release()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_program_that_closes_nothing_ends_by_itself(dsn: str) -> None:
    code = (
        "import sys, synk; from support.jobs import handlers;"
        "client = synk.Client(storage=synk.PostgresStorage(sys.argv[1]));"
        "print(client.insert('x', handlers.Noop()))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, dsn],
        env=program_env(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_pool_that_another_thread_gave_up_meanwhile_is_no_trouble(dsn: str) -> None:
    class LateToThePool(Connector):
        """Another thread gives up the pool just after this one has looked at it."""

        is_late = False

        def _opened_pool(self) -> Pool | OneConnection:
            pool = super()._opened_pool()
            if self.is_late:
                self.is_late = False
                self.close()
            return pool

    storage = synk.PostgresStorage(dsn)
    connector = storage.connector = LateToThePool(dsn, None)
    assert storage.counts() == {}
    connector.is_late = True

    assert storage.counts() == {}
    storage.close()


def test_a_pool_that_another_task_gave_up_meanwhile_is_no_trouble(dsn: str) -> None:
    class LateToThePool(AsyncPostgresStorage):
        """Another task gives up the pool just after this one has looked at it."""

        is_late = False

        async def _opened_pool(self) -> psycopg_pool.AsyncConnectionPool[Any]:
            pool = await super()._opened_pool()
            if self.is_late:
                self.is_late = False
                await self.close()
            return pool

    async def use() -> None:
        storage = LateToThePool(synk.PostgresStorage(dsn))
        assert await storage.get([1]) == []
        storage.is_late = True

        assert await storage.get([1]) == []
        await storage.close()

    asyncio.run(use())
