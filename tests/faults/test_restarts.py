"""D16: a server that is restarted, or down for longer, and who comes back to it when."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from psycopg_pool import ConnectionPool
from psycopg_pool.base import AttemptWithBackoff

import synk
from support.facts import Facts
from support.jobs import handlers
from support.servers import SETTINGS, new_folder
from support.supervising import ended, is_running, supervised, wait_until
from synk import JobState, telemetry
from synk.runtime.supervisor import backoff
from synk.storage import given, migrate
from synk.storage.embedded import EmbeddedServer
from synk.testing.making import raised

TTL = timedelta(seconds=12)
LOOPS = ("claiming", "acknowledging", "renewing the lease", "listening", "maintenance", "reporting")


@pytest.fixture(scope="module")
def restarting() -> Iterator[EmbeddedServer]:
    """A server of the tests' own, with synk's schema."""
    folder = new_folder("synk-restarts-")
    try:
        with EmbeddedServer(folder / "server", settings=SETTINGS) as server:
            with psycopg.connect(server.conninfo, autocommit=True) as connection:
                migrate.apply(connection)
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def storage_of(dsn: str, pool: str) -> Iterator[synk.PostgresStorage]:
    if pool == "synk's":
        yield synk.PostgresStorage(dsn)
        return
    with ConnectionPool(dsn, min_size=2, max_size=4, open=True) as users:
        yield synk.PostgresStorage(users)


@pytest.mark.parametrize(
    ("pool", "mode"), [("synk's", "fast"), ("synk's", "immediate"), ("the user's", "fast")]
)
def test_d16_no_loop_waits_for_the_end_of_its_pause_once_another_got_through(
    restarting: EmbeddedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pool: str,
    mode: Literal["fast", "immediate"],
) -> None:
    """As after hours without a server, but for the minutes that these pauses would take."""
    monkeypatch.setattr(backoff, "PAUSE_S", 240.0)
    monkeypatch.setattr(backoff, "PAUSE_MAX_S", 240.0)
    monkeypatch.setattr(AttemptWithBackoff, "INITIAL_DELAY", 240.0)
    gate = tmp_path / "gate"
    dsn = restarting.conninfo
    with (
        storage_of(dsn, pool) as storage,
        supervised(dsn, storage=storage, lease_ttl=TTL) as client,
    ):
        facts = Facts(client)
        running = client.insert("x", handlers.Slow(str(gate)))
        wait_until(lambda: is_running(client, running))

        restarting.stop(mode)
        gate.touch()
        for loop in LOOPS:
            facts.wait_for(telemetry.StorageFailing, loop=loop)
        restarting.start()
        for loop in LOOPS:
            facts.wait_for(telemetry.StorageRecovered, loop=loop)
        rows = [ended(client, job_id) for job_id in (running, client.insert("y", handlers.Noop()))]

    assert [(row.state, row.attempt) for row in rows] == [(JobState.COMPLETED, 1)] * 2
    assert facts.of(telemetry.LeaseRanOut) == []


def test_d16_a_pool_of_the_users_that_is_merely_exhausted_is_waited_for(
    restarting: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection is made beside it: their limit is a limit."""
    monkeypatch.setattr(given, "CONNECT_S", 0.2)
    with ConnectionPool(restarting.conninfo, min_size=1, max_size=1, open=True) as pool:
        storage = synk.PostgresStorage(pool)
        with pool.connection():
            for _ in range(2):
                assert isinstance(raised(storage.counts), synk.StorageUnavailable)
        assert storage.counts() is not None
