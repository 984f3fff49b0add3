"""Transactions of others' libraries: a job in each goes with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg_pool
import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import handlers
import synk


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
