"""One supervisor for the tests of a file that do not disturb each other."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

import synk
from engine.acting import acting
from servers import Server


@pytest.fixture(scope="module")
def shared_dsn(server: Server) -> Iterator[str]:
    """The database of the file's supervisor."""
    with server.database() as dsn:
        yield dsn


@pytest.fixture(scope="module")
def client(shared_dsn: str) -> Iterator[synk.Client]:
    """A client that runs, with two worker processes."""
    with acting(shared_dsn) as client:
        yield client


@pytest.fixture
def shared_connection(shared_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection to the file's database that commits each statement."""
    with psycopg.connect(shared_dsn, autocommit=True) as connection:
        yield connection
