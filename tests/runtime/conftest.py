"""One supervisor for the tests of a file that do not disturb each other; an engine for others."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

import synk
from support.acting import acting
from support.jobs import handlers
from support.servers import Server
from synk.config import EngineConfig
from synk.core.limits import QueueLimits
from synk.core.messages import DrainRequested
from synk.core.pool import Pool
from synk.registry import Registry
from synk.runtime.supervisor.engine import Engine
from synk.telemetry import Telemetry


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


@pytest.fixture
def an_hour() -> dict[str, synk.QueueConfig]:
    """A queue that is fetched once an hour."""
    return {"default": synk.QueueConfig(time_fetch=timedelta(hours=1))}


@pytest.fixture
def still_engine(an_hour: dict[str, synk.QueueConfig]) -> Iterator[Engine]:
    """An engine whose loop has not begun yet."""
    engine = Engine(
        Pool(EngineConfig(processes=1), {"default": QueueLimits(max_workers=1, timeout_s=60)}),
        EngineConfig(processes=1),
        Registry(handlers.WORKERS),
        an_hour,
        client_id=f"test-{uuid.uuid4()}",
        settle=lambda _: None,
        on_change=lambda: None,
        facts=Telemetry(),
    )
    yield engine
    engine.post(DrainRequested(time.monotonic()))
    engine.run()
