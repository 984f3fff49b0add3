"""Fixtures for the fault tests: the network between a client and its database, and who listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.proxy import Proxy
from synk.storage.postgres import PostgresStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.servers import Server


@pytest.fixture
def dsn(server: Server) -> str:
    """A database without jobs, the same for all of these tests: they leave nothing else behind."""
    return server.emptied()


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    """The network before the database."""
    with Proxy(dsn) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy) -> Iterator[PostgresStorage]:
    """The storage behind the proxy, as a client has it."""
    storage = PostgresStorage(proxy.dsn)
    yield storage
    storage.close()
