"""Servers that turn read-only, fail over to a standby, lose commits, and crash."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

import synk
from support import servers, standby
from support.facts import Facts
from support.jobs import handlers
from support.servers import Server
from support.standby import Pair, alter_system
from support.supervising import ended, is_running, make_client, supervised, wait_until
from synk import JobState, telemetry

TTL = timedelta(seconds=12)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with standby.replicated() as pair:
        yield pair


@contextmanager
def client_of(dsn: str) -> Iterator[synk.Client]:
    with make_client(dsn) as client:
        yield client


def inserted(client: synk.Client) -> int:
    """Inserts a job as soon as that is possible."""

    def attempt() -> int | None:
        try:
            return client.insert("x", handlers.Noop(), synk.InsertOptions(idempotency_key="once"))
        except synk.StorageUnavailable:
            return None

    return wait_until(attempt, what="the database to take a job")


def test_d6_a_server_that_is_read_only_for_a_while_is_waited_for(
    pair: Pair, tmp_path: Path
) -> None:
    dsn = pair.primary.conninfo
    gate = tmp_path / "gate"
    with supervised(dsn, lease_ttl=TTL) as client:
        facts = Facts(client)
        job_id = client.insert("x", handlers.Slow(str(gate)))
        wait_until(lambda: is_running(client, job_id))

        alter_system(pair.primary, "default_transaction_read_only", "on")
        with pytest.raises(synk.StorageUnavailable, match="read-only"):
            wait_until(lambda: client.insert("x", handlers.Noop()) and False)
        gate.touch()
        facts.wait_for(telemetry.StorageFailing, loop="acknowledging")
        alter_system(pair.primary, "default_transaction_read_only", "off")
        row = ended(client, job_id)

        assert (row.state, row.attempt) == (JobState.COMPLETED, 1)
        ended(client, client.insert("x", handlers.Noop()))
        facts.wait_for(telemetry.StorageRecovered, loop="acknowledging")
    assert len(facts.of(telemetry.StorageFailing, loop="acknowledging")) == 1
    assert "c4nary" not in facts.text()


def test_d6_after_a_switch_over_everything_goes_on_at_the_new_primary(
    pair: Pair, tmp_path: Path
) -> None:
    """The former one still answers, and takes no writes."""
    gate = tmp_path / "gate"
    with supervised(pair.dsn, lease_ttl=TTL) as client:
        running = client.insert("x", handlers.Slow(str(gate)))
        wait_until(lambda: is_running(client, running))

        pair.wait_until_level()
        alter_system(pair.primary, "default_transaction_read_only", "on")
        pair.promote()
        later = inserted(client)
        gate.touch()

        with client_of(pair.standby.conninfo) as direct:
            rows = [ended(direct, job_id) for job_id in (running, later)]
            (lease,) = direct.storage.leases()
            wait_until(
                lambda: direct.storage.leases()[0].beat > lease.beat,
                what="the lease to be renewed there",
            )
    assert [(row.state, row.attempt) for row in rows] == [(JobState.COMPLETED, 1)] * 2


def test_d7_after_a_fail_over_that_lost_commits_no_job_of_the_new_primary_is_lost(
    pair: Pair, tmp_path: Path
) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    with supervised(pair.dsn, lease_ttl=TTL), client_of(pair.primary.conninfo) as before:
        acknowledged = before.insert("a", handlers.Slow(str(gate)))
        claimed_later = before.insert(
            "b", handlers.Write(str(log)), synk.InsertOptions(depends_on=(acknowledged,))
        )
        wait_until(lambda: is_running(before, acknowledged))
        pair.cut()
        gate.touch()
        for job_id in (acknowledged, claimed_later):
            ended(before, job_id)
        lost = before.insert("c", handlers.Noop())

        pair.primary.stop("immediate")
        pair.promote()

        with client_of(pair.standby.conninfo) as after:
            rows = [ended(after, job_id) for job_id in (acknowledged, claimed_later)]
            assert after.get(lost) is None
    assert [(row.state, row.attempt) for row in rows] == [(JobState.COMPLETED, 1)] * 2
    assert rows[0].errors == []
    # What was claimed after the last commit that survived has run twice: at least once.
    assert log.read_text() == "x\nx\n"


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that a test may crash."""
    with servers.embedded_server() as server:
        yield server


def test_d16_crashes_of_the_server_lose_and_double_nothing(
    own_server: Server, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with own_server.database() as dsn:
        with supervised(dsn) as client:
            facts = Facts(client)
            specs = [("x", handlers.Write(str(log), str(n), 0.01)) for n in range(300)]
            ids = client.insert_many(specs)
            # A supervisor whose database crashes while it starts does not start.
            wait_until(log.exists, what="the first job")
            for _ in range(3):
                wait_until(lambda: _killed_backend(dsn), what="a kill of a backend")
            rows = wait_until(lambda: _all_ended(client, ids), what="all jobs to end")
        own_server.reconnect()

    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert {row.attempt - row.uncounted for row in rows} == {1}
    assert sorted(map(int, log.read_text().split())) == list(range(300))
    assert facts.of(telemetry.LeaseRanOut) == []


def _killed_backend(dsn: str) -> bool:
    """Kills a backend of synk, and waits until the server has ended all others for it.

    Returns False if there was none, or it was just ending.
    """
    killed = False
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            row = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'synk' ORDER BY random() LIMIT 1"
            ).fetchone()
            if row is None:
                return False
            os.kill(row[0], signal.SIGKILL)
            killed = True
            connection.execute("SELECT pg_sleep(60)")
    except (psycopg.OperationalError, ProcessLookupError):
        return killed
    raise AssertionError("the server did not notice that a backend was killed")


def _all_ended(client: synk.Client, ids: list[int]) -> list[synk.JobRow] | None:
    try:
        rows = client.storage.get(ids)
    except synk.StorageUnavailable:
        return None
    return rows if all(row.state.is_final for row in rows) else None
