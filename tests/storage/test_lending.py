"""Transactions of others' libraries: a job in each goes with it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import psycopg2
import psycopg_pool
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from psycopg2.extras import RealDictCursor
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import synk
from support.jobs import handlers
from support.supervising import program_env
from synk import JobState
from synk.attempt import Attempt
from synk.job import Job
from synk.status import client_id_of
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OWNER, claim, insert


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with synk.Client(storage=synk.PostgresStorage(dsn)) as client:
        yield client


def url(dsn: str) -> sqlalchemy.URL:
    given: dict[str, Any] = conninfo_to_dict(dsn)
    return sqlalchemy.URL.create(
        "postgresql+psycopg",
        username=given.get("user"),
        password=given.get("password"),
        database=given["dbname"],
        query={k: str(v) for k, v in given.items() if k in {"host", "port"}},
    )


def names(client: synk.Client) -> list[str]:
    return [row.name for row in client.storage.jobs()]


def test_a_job_goes_with_sqlalchemys_session_or_connection(client: synk.Client, dsn: str) -> None:
    engine = sqlalchemy.create_engine(url(dsn))
    for make in (lambda: Session(engine), engine.connect):
        with make() as lent:
            client.insert_tx(lent, "kept", handlers.Noop())
            client.insert_many([("kept", handlers.Noop())] * 2, connection=lent)
            lent.commit()
            client.insert_tx(lent, "dropped", handlers.Noop())
            lent.rollback()
    with pytest.raises(synk.ConfigurationError, match=r"with engine.begin\(\) as connection"):
        client.insert_tx(engine, "x", handlers.Noop())
    engine.dispose()

    assert names(client) == ["kept"] * 6


def test_a_job_goes_with_sqlalchemys_awaited_session(client: synk.Client, dsn: str) -> None:
    async def insert() -> None:
        engine = create_async_engine(url(dsn))
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as awaited:
            for make in (lambda: AsyncSession(engine), engine.connect):
                async with make() as lent:
                    await awaited.insert_tx(lent, "kept", handlers.Noop())
                    await lent.commit()
                    await awaited.insert_tx(lent, "dropped", handlers.Noop())
                    await lent.rollback()
                    with pytest.raises(synk.ConfigurationError, match="for AsyncClient"):
                        client.insert_tx(lent, "x", handlers.Noop())
            with pytest.raises(synk.ConfigurationError, match="connection=None"):
                await awaited.insert_tx(None, "x", handlers.Noop())
        await engine.dispose()

    asyncio.run(insert())

    assert names(client) == ["kept"] * 2


def test_what_is_no_connection_is_refused_with_what_to_write(client: synk.Client, dsn: str) -> None:
    with (
        psycopg.connect(dsn) as connection,
        connection.cursor() as cursor,
        pytest.raises(synk.ConfigurationError, match=r"give cursor\.connection"),
    ):
        client.insert_tx(cursor, "x", handlers.Noop())
    with (
        psycopg_pool.ConnectionPool(dsn, min_size=1, open=True) as pool,
        pytest.raises(synk.ConfigurationError, match=r"with pool\.connection\(\)"),
    ):
        client.insert_tx(pool, "x", handlers.Noop())


def test_a_job_goes_with_djangos_transaction_and_completes_in_it(dsn: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "support.in_django", dsn],
        env=program_env(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("done\n", "")


class InTable(Attempt):
    schema = "synk"


def claimed(storage: PostgresStorage) -> Job[Any]:
    insert(storage)
    (job,) = claim(storage)
    return Job(job, None, client_id_of(OWNER), InTable())


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_job_completes_in_sqlalchemys_transaction(
    storage: PostgresStorage, dsn: str, driver: str
) -> None:
    engine = sqlalchemy.create_engine(url(dsn).set(drivername=f"postgresql+{driver}"))
    for make in (lambda: Session(engine), engine.connect, scoped_session(sessionmaker(engine))):
        job = claimed(storage)
        with make() as lent:
            job.complete_tx(lent, {"said": "✓"})
            lent.rollback()
            assert storage.get([job.id])[0].state is JobState.RUNNING
            job.complete_tx(lent, {"said": "✓"})
            lent.commit()
            with pytest.raises(synk.LeaseLost):
                job.complete_tx(lent)
        assert storage.get([job.id])[0].result == {"said": "✓"}
    engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_job_completes_in_sqlalchemys_awaited_transaction(
    storage: PostgresStorage, dsn: str, driver: str
) -> None:
    async def use() -> None:
        engine = create_async_engine(url(dsn).set(drivername=f"postgresql+{driver}"))
        for make in (lambda: AsyncSession(engine), engine.connect):
            job = claimed(storage)
            async with make() as lent:
                with pytest.raises(synk.ConfigurationError, match=r"await job\.complete_tx_async"):
                    job.complete_tx(lent)
                await job.complete_tx_async(lent, {"said": "✓"})
                await lent.rollback()
                assert storage.get([job.id])[0].state is JobState.RUNNING
                await job.complete_tx_async(lent, {"said": "✓"})
                await lent.commit()
                with pytest.raises(synk.LeaseLost):
                    await job.complete_tx_async(lent)
            assert storage.get([job.id])[0].result == {"said": "✓"}
        await engine.dispose()

    asyncio.run(use())


def test_a_job_goes_with_what_sqlalchemy_makes_of_a_session(client: synk.Client, dsn: str) -> None:
    engine = sqlalchemy.create_engine(url(dsn))
    scoped = scoped_session(sessionmaker(engine))
    client.insert_tx(scoped, "kept", handlers.Noop())
    client.insert_many([("kept", handlers.Noop())] * 3000, connection=scoped)
    scoped.commit()
    scoped.remove()
    raw = engine.raw_connection()
    client.insert_tx(raw, "kept", handlers.Noop())
    raw.commit()
    raw.close()
    engine.dispose()

    async def use() -> None:
        engine = create_async_engine(url(dsn))
        scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as awaited:
            await awaited.insert_many([("kept", handlers.Noop())] * 3000, connection=scoped)
            await scoped.commit()
            with pytest.raises(synk.ConfigurationError, match="for AsyncClient"):
                client.insert_tx(scoped, "x", handlers.Noop())
        await scoped.remove()
        await engine.dispose()

    asyncio.run(use())

    assert client.storage.counts() == {JobState.AVAILABLE: 6002}


def test_other_drivers_are_refused_with_what_works(
    client: synk.Client, storage: PostgresStorage, dsn: str
) -> None:
    job = claimed(storage)
    theirs = "a statement of yours stores a job: INSERT INTO synk.job"
    own = psycopg2.connect(dsn)
    with pytest.raises(synk.ConfigurationError, match=f"psycopg2, with which {theirs}"):
        client.insert_tx(own, "x", handlers.Noop())
    with pytest.raises(synk.ConfigurationError, match="or a cursor"):
        job.complete_tx(own)
    with pytest.raises(synk.ConfigurationError, match="connection=None"):
        job.complete_tx(None)
    with own.cursor() as cursor:
        cursor.execute("INSERT INTO synk.job (name, kind, args) VALUES ('x', 'noop', '{}')")
    with own.cursor(cursor_factory=RealDictCursor) as cursor:
        job.complete_tx(cursor, "done")
    own.commit()
    own.close()

    async def use() -> None:
        own = await asyncpg.connect(**asyncpg_options(dsn))
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as awaited:
            with pytest.raises(synk.ConfigurationError, match=f"asyncpg, with which {theirs}"):
                await awaited.insert_tx(own, "x", handlers.Noop())
        with pytest.raises(synk.ConfigurationError, match="has to be awaited"):
            job.complete_tx(own)
        with pytest.raises(synk.ConfigurationError, match=r"must be a psycopg\.AsyncConnection"):
            await job.complete_tx_async(own)
        await own.close()

    asyncio.run(use())
    assert storage.get([job.id])[0].result == "done"
    assert client.storage.counts() == {JobState.COMPLETED: 1, JobState.AVAILABLE: 1}


def test_another_database_is_refused_by_its_drivers_name(client: synk.Client, dsn: str) -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with (
        engine.connect() as lent,
        pytest.raises(synk.ConfigurationError, match=r"its driver is sqlite3$"),
    ):
        client.insert_tx(lent, "x", handlers.Noop())
    engine.dispose()

    async def use() -> None:
        engine = sqlalchemy.create_engine(url(dsn))
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as awaited:
            with psycopg.connect(dsn) as own, Session(engine) as session:
                for given in (own, session):
                    with pytest.raises(synk.ConfigurationError, match=r"this one is for Client$"):
                        await awaited.insert_tx(given, "x", handlers.Noop())
        engine.dispose()

    asyncio.run(use())


def asyncpg_options(dsn: str) -> dict[str, Any]:
    given: dict[str, Any] = conninfo_to_dict(dsn)
    return {
        "user": given.get("user"),
        "password": given.get("password"),
        "database": given["dbname"],
        "host": given["host"],
        "port": given["port"],
    }
