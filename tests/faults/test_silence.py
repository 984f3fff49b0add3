"""A network that passes nothing on, and connections that lead nowhere and do not say so."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest

import synk
from support.facts import Facts
from support.jobs import handlers
from support.proxy import Proxy
from support.supervising import ended, is_running, make_client, supervised, wait_until
from synk import Cause, JobState, telemetry
from synk.storage import announcing, bounds, postgres, sessions
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OWNER, register

Use: TypeAlias = Callable[[PostgresStorage], AbstractContextManager[Callable[[], Any]]]

TTL = timedelta(seconds=6)
NEVER = {"default": synk.QueueConfig(time_fetch=timedelta(hours=1))}
"""Nothing is found by looking: what runs was announced, or there was a reason to look."""


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers may take a second or two, and listeners ask for a sign of life each second."""
    monkeypatch.setattr(bounds.BoundedConnection, "answer_s", 1.0)
    monkeypatch.setattr(bounds, "ANSWER_S", 1.0)
    monkeypatch.setattr(sessions, "CONNECT_S", 2)
    monkeypatch.setattr(postgres, "_BEAT_S", 1.0)
    monkeypatch.setattr(postgres, "PING_ANSWER_S", 1.0)
    monkeypatch.setattr(announcing, "_PING_S", 1.0)


@contextmanager
def asking(storage: PostgresStorage) -> Iterator[Callable[[], Any]]:
    storage.counts()
    yield storage.counts


@contextmanager
def connecting_anew(storage: PostgresStorage) -> Iterator[Callable[[], Any]]:
    yield storage.counts


@contextmanager
def beating(storage: PostgresStorage) -> Iterator[Callable[[], Any]]:
    with storage.heartbeat(OWNER) as heartbeat:
        heartbeat.beat()
        yield heartbeat.beat


@contextmanager
def listening(storage: PostgresStorage) -> Iterator[Callable[[], Any]]:
    with storage.announcements(OWNER) as announcements:
        yield lambda: [announcements.wait(0.2) for _ in range(100)]


@contextmanager
def awaiting(storage: PostgresStorage) -> Iterator[Callable[[], Any]]:
    with asyncio.Runner() as runner:
        client = synk.AsyncClient(storage=storage)
        runner.run(client.get(1))
        yield lambda: runner.run(client.get(1))
        runner.run(client.close())


@pytest.mark.parametrize("use", [asking, connecting_anew, beating, listening, awaiting])
def test_d2_nothing_waits_for_an_answer_for_ever(
    proxy: Proxy, through: PostgresStorage, impatience: None, use: Use
) -> None:
    register(PostgresStorage(proxy.dsn), OWNER)
    with use(through) as call:
        proxy.stand_still()
        began = time.monotonic()
        with pytest.raises(synk.StorageUnavailable, match=r"no answer within 1 s|timeout"):
            call()
        took_s = time.monotonic() - began
        proxy.flow()

    assert took_s < 10


def test_d2_the_server_and_the_kernel_give_up_too(dsn: str, storage: PostgresStorage) -> None:
    with storage.connector.connection() as connection:
        told = {
            name: connection.execute(f"SHOW {name}".encode()).fetchone()
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        }
        given = connection.info.get_parameters()

    assert told == {
        "statement_timeout": ("50s",),
        "lock_timeout": ("5s",),
        "idle_in_transaction_session_timeout": ("1min",),
    }
    assert (given["tcp_user_timeout"], given["keepalives_idle"]) == ("20000", "10")


def test_d2_a_supervisor_that_is_cut_off_stops_before_its_lease_ends_and_goes_on_afterwards(
    dsn: str, proxy: Proxy, connection: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with make_client(dsn) as direct, supervised(proxy.dsn, lease_ttl=TTL) as client:
        ids = [direct.insert("x", handlers.Once(str(log))) for _ in range(2)]
        wait_until(lambda: all(is_running(direct, job_id) for job_id in ids))
        wait_until(lambda: all(slot.job_id for slot in client.running()), what="both to begin")
        pids = [slot.pid for slot in client.running()]
        proxy.stand_still()
        wait_until(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids),
            what="the jobs to be killed",
        )
        lease = connection.execute("SELECT lease_until > now() FROM synk.client").fetchone()
        proxy.flow()
        rows = [ended(direct, job_id) for job_id in ids]

    assert lease == (True,)
    assert {(row.state, row.errors[0].cause) for row in rows} == {(JobState.COMPLETED, Cause.LOST)}


def test_d2_d3_connections_that_lead_nowhere_are_given_up_by_all_that_use_them(
    dsn: str, proxy: Proxy, impatience: None
) -> None:
    with make_client(dsn) as direct, supervised(proxy.dsn, queues=NEVER) as client:
        facts = Facts(client)
        ended(direct, direct.insert("x", handlers.Noop()))

        proxy.forget()
        job_id = direct.insert("x", handlers.Noop())

        assert ended(direct, job_id).attempt == 1
        facts.wait_for(telemetry.StorageRecovered, loop="listening")
        # It hears again.
        ended(direct, direct.insert("x", handlers.Noop()))
    for loop in ("listening", "claiming", "acknowledging", "renewing the lease"):
        assert len(facts.of(telemetry.StorageFailing, loop=loop)) <= 1


def test_d3_a_listener_whose_connection_is_ended_listens_again_and_looks_first(
    dsn: str, connection: psycopg.Connection
) -> None:
    with supervised(dsn, queues=NEVER) as client:
        ended(client, client.insert("x", handlers.Noop()))
        for _ in range(3):
            (pid,) = listeners(connection)
            job_id = client.insert("x", handlers.Noop())
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            second = client.insert("x", handlers.Noop())

            ended(client, job_id)
            ended(client, second)
            wait_until(
                lambda former=pid: listeners(connection) not in ([], [former]),
                what="a new listener",
            )


def listeners(connection: psycopg.Connection) -> list[int]:
    rows = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'synk'"
        " AND datname = current_database() AND query LIKE 'LISTEN%'"
    ).fetchall()
    return [pid for (pid,) in rows]


def test_d3_without_any_announcement_jobs_are_found_by_looking(
    dsn: str, connection: psycopg.Connection
) -> None:
    connection.execute("ALTER TABLE synk.job DISABLE TRIGGER job_announce")
    try:
        with supervised(dsn) as client:
            for _ in range(3):
                ended(client, client.insert("x", handlers.Noop()))
    finally:
        connection.execute("ALTER TABLE synk.job ENABLE TRIGGER job_announce")


def test_d4_a_listener_never_keeps_a_transaction_open(
    dsn: str, connection: psycopg.Connection, storage: PostgresStorage, impatience: None
) -> None:
    seen: set[str] = set()
    stop = threading.Event()

    def listen() -> None:
        with storage.announcements(OWNER) as announcements:
            while not stop.is_set():
                announcements.wait(0.05)

    thread = threading.Thread(target=listen)
    thread.start()
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        seen |= {
            state
            for (state,) in connection.execute(
                "SELECT state FROM pg_stat_activity WHERE application_name = 'synk'"
                " AND datname = current_database() AND state IS NOT NULL"
            ).fetchall()
        }
    stop.set()
    thread.join()

    assert seen <= {"idle", "active"}
    assert seen
