"""Fixtures for all tests: a database each, on the one server of the run."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from support import needs, servers
from support.model import ModelStorage
from synk.storage import migrate
from synk.storage.postgres import PostgresStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.servers import Server
    from synk.storage.base import Storage

WORKERS_MAX = 8


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many run side by side: two a CPU, since most tests wait. Each has a server of its own.

    A part of the tests runs alone, without the seconds in which they start; so do all tests on a
    server that somebody gave, of which there is one.
    """
    is_whole = config.args == config.getini("testpaths") and not config.option.keyword
    if not is_whole or servers.GIVEN in os.environ:
        return 0
    return min(2 * len(os.sched_getaffinity(0)), WORKERS_MAX)


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
    with servers.embedded_server(needs.postgres15().parent, migrate.OLDEST) as server:
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
