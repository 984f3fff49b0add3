"""D1: a producer meets a database that is away for a while."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import synk
from support.jobs import handlers
from support.proxy import Proxy
from support.supervising import DEADLINE_S
from synk.storage.postgres import PostgresStorage

WAIT = dt.timedelta(seconds=60)
KEYED = synk.InsertOptions(idempotency_key="the key")


class Waiting(logging.Handler):
    """Hears when an insert begins to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "waits up to" in record.getMessage():
            self.began.set()


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    handler = Waiting()
    logging.getLogger("synk").addHandler(handler)
    yield handler
    logging.getLogger("synk").removeHandler(handler)


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    with Proxy(dsn) as proxy:
        yield proxy


def during(call: Callable[[], Any], then: Callable[[], None]) -> Any:
    """Runs *call* in a thread, and *then* beside it; returns what came of the call."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(call())
        except Exception as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    then()
    thread.join()
    return came[0]


def one(client: synk.Client) -> list[int]:
    return [client.insert("x", handlers.Noop(), wait=WAIT)]


def many(client: synk.Client) -> list[int]:
    return client.insert_many([("x", handlers.Noop())] * 3, wait=WAIT)


def awaited_one(client: synk.Client) -> list[int]:
    async def use() -> list[int]:
        async with synk.AsyncClient(storage=client.storage) as own:
            return [await own.insert("x", handlers.Noop(), wait=WAIT)]

    return asyncio.run(use())


def awaited_many(client: synk.Client) -> list[int]:
    async def use() -> list[int]:
        async with synk.AsyncClient(storage=client.storage, insert_wait=WAIT) as own:
            return await own.insert_many([("x", handlers.Noop())] * 3)

    return asyncio.run(use())


@pytest.mark.parametrize("insert", [one, many, awaited_one, awaited_many])
def test_d1_an_insert_waits_for_a_server_that_is_down(
    proxy: Proxy, waiting: Waiting, connection: psycopg.Connection, insert: Callable[..., Any]
) -> None:
    with synk.Client(storage=PostgresStorage(proxy.dsn)) as client:
        proxy.go_down()

        def come_back() -> None:
            assert waiting.began.wait(30)
            proxy.come_back()

        ids = during(lambda: insert(client), come_back)

    stored = [row[0] for row in connection.execute("SELECT id FROM synk.job ORDER BY id")]
    assert ids == stored


def test_d1_an_insert_that_may_not_wait_fails_at_once(proxy: Proxy, waiting: Waiting) -> None:
    with synk.Client(storage=PostgresStorage(proxy.dsn)) as client:
        proxy.go_down()

        with pytest.raises(synk.StorageUnavailable):
            client.insert("x", handlers.Noop())
    assert not waiting.began.is_set()


def test_d1_a_wait_ends_with_the_error(proxy: Proxy, waiting: Waiting) -> None:
    storage = PostgresStorage(proxy.dsn)
    with synk.Client(storage=storage, insert_wait=dt.timedelta(seconds=0.3)) as client:
        proxy.go_down()

        with pytest.raises(synk.StorageUnavailable):
            client.insert("x", handlers.Noop())
    assert waiting.began.is_set()


@pytest.mark.parametrize("options", [None, KEYED])
def test_d1_a_lost_answer_is_waited_for_only_where_a_key_makes_it_safe(
    proxy: Proxy,
    waiting: Waiting,
    connection: psycopg.Connection,
    options: synk.InsertOptions | None,
) -> None:
    with synk.Client(storage=PostgresStorage(proxy.dsn)) as client:
        trap = proxy.trap("insert", at="answer")

        def lose_the_answer() -> None:
            trap.wait()
            proxy.go_down()
            if options is not None:
                assert waiting.began.wait(30)
            proxy.come_back()

        came = during(
            lambda: client.insert("x", handlers.Noop(), options, wait=WAIT), lose_the_answer
        )

    stored = connection.execute("SELECT id FROM synk.job").fetchall()
    if options is None:
        assert isinstance(came, synk.OutcomeUnknown)
        assert len(stored) <= 1
    else:
        assert stored == [(came,)]


def test_a_wait_is_refused_where_it_cannot_be(dsn: str) -> None:
    storage = PostgresStorage(dsn)
    with synk.Client(storage=storage) as client, psycopg.connect(dsn) as own:
        with pytest.raises(synk.ConfigurationError, match=r"^wait="):
            client.insert_many([("x", handlers.Noop())], connection=own, wait=WAIT)
        with pytest.raises(synk.ConfigurationError, match=r"^wait="):
            client.insert("x", handlers.Noop(), wait=30)  # pyright: ignore[reportArgumentType]
        with pytest.raises(synk.ConfigurationError, match=r"^insert_wait="):
            synk.Client(storage=storage, insert_wait=dt.timedelta(seconds=-1))
        assert client.insert_many([], wait=WAIT) == []
        assert client.storage.get([1]) == []


def test_a_wrong_value_is_not_waited_with(proxy: Proxy, waiting: Waiting) -> None:
    with synk.Client(storage=PostgresStorage(proxy.dsn), insert_wait=WAIT) as client:
        proxy.go_down()

        with pytest.raises(synk.InvalidJob):
            client.insert("", handlers.Noop())
    assert not waiting.began.is_set()


SHORT = dt.timedelta(seconds=0.5)


@pytest.mark.parametrize("was_used", [False, True])
@pytest.mark.parametrize("hosts", [1, 3])
def test_d1_no_try_to_connect_takes_longer_than_there_is_left_of_the_wait(
    proxy: Proxy, was_used: bool, hosts: int
) -> None:
    """A network that takes connections and passes nothing on, where each may take ten minutes."""
    given = conninfo_to_dict(proxy.dsn)
    places = {name: ",".join([str(given[name])] * hosts) for name in ("host", "port")}
    patient = make_conninfo(proxy.dsn, connect_timeout=600, **places)
    with synk.Client(storage=PostgresStorage(patient), insert_wait=SHORT) as client:
        if was_used:
            client.insert("x", handlers.Noop())
            proxy.stand_still()
            proxy.reset()
        proxy.stand_still()

        inserting = [threading.Thread(target=refused, args=(client,)) for _ in range(3)]
        for thread in inserting:
            thread.start()
        for thread in inserting:
            thread.join(DEADLINE_S)
        assert not any(thread.is_alive() for thread in inserting)
        proxy.flow()


def refused(client: synk.Client) -> None:
    with pytest.raises(synk.StorageUnavailable):
        client.insert("x", handlers.Noop())


def test_d1_no_try_of_an_asyncio_client_to_connect_takes_longer_either(proxy: Proxy) -> None:
    patient = make_conninfo(proxy.dsn, connect_timeout=600)

    async def use() -> None:
        storage = PostgresStorage(patient)
        async with synk.AsyncClient(storage=storage, insert_wait=SHORT) as client:
            proxy.stand_still()
            for _ in range(2):
                with pytest.raises(synk.StorageUnavailable):
                    await client.insert("x", handlers.Noop())
            proxy.flow()
            await client.insert("x", handlers.Noop(), wait=WAIT)

    asyncio.run(asyncio.wait_for(use(), DEADLINE_S))
