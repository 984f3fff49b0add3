"""Fixtures for all tests: a database each, on the one server of the run."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

import servers
from model import ModelStorage
from synk.storage import migrate
from synk.storage.postgres import PostgresStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Server
    from synk.storage.base import Storage


@pytest.fixture(scope="session", autouse=True)
def heeded_signals() -> None:
    """What is started hears of Ctrl-C and a hang-up, also where this run was begun with `nohup`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The PostgreSQL server of this run."""
    with servers.running_server() as server:
        yield server


@pytest.fixture(scope="session")
def server15() -> Iterator[Server]:
    """The machine's PostgreSQL 15, where it has one, with the oldest schema that synk works on."""
    if not (servers.PLACE_15 / "postgres").is_file():
        pytest.skip(f"no PostgreSQL 15 in {servers.PLACE_15}")
    with servers.embedded_server(servers.PLACE_15, migrate.OLDEST) as server:
        yield server


@pytest.fixture
def dsn(server: Server) -> Iterator[str]:
    """A new database with synk's schema."""
    with server.database() as dsn:
        yield dsn


@pytest.fixture
def empty_dsn(server: Server) -> Iterator[str]:
    """A new database with nothing in it."""
    with server.database(migrated=False) as dsn:
        yield dsn


@pytest.fixture
def server15_dsn(server15: Server) -> str:
    """A database without jobs on PostgreSQL 15, with the oldest schema that synk works on."""
    return server15.emptied()


@pytest.fixture
def storage(dsn: str) -> Iterator[PostgresStorage]:
    """The storage on the test's database."""
    storage = PostgresStorage(dsn)
    yield storage
    storage.close()


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    """A connection to the test's database that commits each statement."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture(params=["postgres", "model"])
def any_storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """Each storage that keeps the contract, empty: the real one, and the model of the tests."""
    if request.param == "model":
        yield ModelStorage()
        return
    storage = PostgresStorage(request.getfixturevalue("server").emptied())
    yield storage
    storage.close()
