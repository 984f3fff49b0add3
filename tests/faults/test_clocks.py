"""T1 to T5: clocks that are wrong, are set while jobs run, or go on while a machine sleeps."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest

import synk
from support import servers
from support.clocks import Clocks
from support.facts import Facts
from support.jobs import handlers
from support.supervising import (
    SupervisorProcess,
    ended,
    is_running,
    make_client,
    supervised,
    wait_until,
)
from synk import Cause, JobState, telemetry
from synk.runtime.supervisor.lease_loop import boottime
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OWNER, register

AN_HOUR_S = 3600.0
TTL = timedelta(seconds=6)
SHORT = "{'lease_ttl': __import__('datetime').timedelta(seconds=6), 'processes': 1}"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="synk-clocks-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def clocks(folder: Path) -> Clocks:
    return Clocks(folder)


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with make_client(dsn) as client:
        yield client


def test_clocks_can_be_set(clocks: Clocks) -> None:
    clocks.set(wall_s=AN_HOUR_S, sleep_s=1e9)
    ask = "import time; print(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))"

    output = subprocess.run(
        [sys.executable, "-c", ask], env=clocks.environment, capture_output=True, check=True
    ).stdout

    told = [float(each) for each in output.split()]
    now = datetime.now(timezone.utc).timestamp()
    assert told == pytest.approx([now + AN_HOUR_S, boottime() + 1e9], abs=30)


@pytest.mark.parametrize("off_s", [-AN_HOUR_S, AN_HOUR_S])
def test_t1_a_supervisor_whose_clock_is_wrong_works_as_any_other(
    client: synk.Client, dsn: str, clocks: Clocks, off_s: float
) -> None:
    clocks.set(wall_s=off_s)
    with (
        supervised(dsn, lease_ttl=TTL, processes=1) as other,
        SupervisorProcess(dsn, SHORT, environment=clocks.environment) as wrong,
    ):
        facts = Facts(other)
        soon = datetime.now(timezone.utc) + timedelta(seconds=1)
        due = client.insert("x", handlers.Noop(), synk.InsertOptions(scheduled_at=soon))
        later = datetime.now(timezone.utc) + timedelta(minutes=30)
        not_due = client.insert("x", handlers.Noop(), synk.InsertOptions(scheduled_at=later))
        late = client.insert("x", handlers.Misbehave("spin"))
        rows = [ended(client, due), wait_until(lambda: failed(client, late))]
        waiting = client.get(not_due)
        names = wait_until(lambda: both_served(client), what="both to serve")
        tag = wrong.tag

    assert rows[0].state is JobState.COMPLETED
    assert rows[0].attempted_at is not None
    assert timedelta(0) <= rows[0].attempted_at - soon < timedelta(seconds=30)
    assert rows[1].errors[0].cause is Cause.TIMEOUT
    assert timedelta(seconds=3) < rows[1].scheduled_at - at(rows[1]) < timedelta(seconds=5)
    assert waiting is not None
    assert waiting.state is JobState.SCHEDULED
    assert tag in names
    assert facts.of(telemetry.SupervisorDeclaredDead) == []


def at(row: synk.JobRow) -> datetime:
    when = row.errors[0].at
    assert when is not None
    return when


def failed(client: synk.Client, job_id: int) -> synk.JobRow | None:
    row = client.get(job_id)
    return row if row is not None and row.errors else None


def both_served(client: synk.Client) -> set[str]:
    """Inserts some more jobs; returns who ran jobs so far, once these are two."""
    client.insert_many([("x", handlers.Write("/dev/null", sleep_s=0.1)) for _ in range(4)])
    rows = client.storage.jobs(state=JobState.COMPLETED, queue=None, kind=None, limit=100)
    rows = client.storage.get([row.id for row in rows])
    names = {row.attempted_by[0] for row in rows}
    return names if len(names) == 2 else set()


def test_t2_a_step_of_the_wall_clock_ends_no_job_and_spares_none(
    client: synk.Client, dsn: str, clocks: Clocks, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    clocks.set()
    with SupervisorProcess(dsn, SHORT.replace("1}", "2}"), environment=clocks.environment) as one:
        long = client.insert("x", handlers.Once(str(log), 3.0))
        wait_until(lambda: is_running(client, long) and log.exists())
        clocks.set(wall_s=AN_HOUR_S)
        spared = client.insert("x", handlers.Misbehave("spin"))
        wait_until(lambda: is_running(client, spared))
        clocks.set(wall_s=-AN_HOUR_S)
        late = wait_until(lambda: failed(client, spared))
        row = ended(client, long)
        tag = one.tag

    assert (row.state, row.attempt, row.attempted_by) == (JobState.COMPLETED, 1, [tag])
    (error,) = late.errors
    assert error.cause is Cause.TIMEOUT
    assert error.duration_s is not None
    assert 0.5 <= error.duration_s < 20


def test_t3_a_machine_that_slept_past_its_lease_ends_its_jobs_before_it_asks(
    client: synk.Client, dsn: str, clocks: Clocks, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    clocks.set()
    with SupervisorProcess(dsn, SHORT, environment=clocks.environment) as sleeper:
        job_id = client.insert("x", handlers.Once(str(log)))
        wait_until(lambda: is_running(client, job_id) and log.exists())
        clocks.set(sleep_s=TTL.total_seconds())
        row = ended(client, job_id)
        later = ended(client, client.insert("x", handlers.Noop()))
        tag = sleeper.tag

    # It was nobody else's meanwhile, so the same supervisor goes on.
    assert (row.state, row.attempt, row.attempted_by) == (JobState.COMPLETED, 2, [tag, tag])
    assert row.errors[0].cause is Cause.LOST
    assert "could not renew its lease" in row.errors[0].error
    assert later.attempted_by == [tag]


def test_t4_a_step_of_the_servers_clock_is_told_and_frees_no_job_of_a_living_supervisor(
    folder: Path, clocks: Clocks, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    clocks.set()
    with (
        servers.embedded_server(clocks.binaries(folder / "binaries")) as server,
        server.database() as dsn,
        supervised(dsn, lease_ttl=TTL, processes=1) as one,
        supervised(dsn, lease_ttl=TTL, processes=1) as two,
    ):
        facts = [Facts(one), Facts(two)]
        ids = [one.insert("x", handlers.Slow(str(gate))) for _ in range(2)]
        wait_until(lambda: all(is_running(one, job_id) for job_id in ids))
        for wall_s in (AN_HOUR_S, -AN_HOUR_S):
            before = beats(dsn)
            clocks.set(wall_s=wall_s)
            # Both look at each other's leases as often as they renew their own.
            wait_until(lambda then=before: all(map(is_later, beats(dsn), then)))
        gate.touch()
        rows = [ended(one, job_id) for job_id in ids]

    assert {(row.state, row.attempt, row.lost) for row in rows} == {(JobState.COMPLETED, 1, 0)}
    for each in facts:
        steps = [fact.seconds for fact in each.of(telemetry.StorageClockStepped)]
        assert steps == pytest.approx([AN_HOUR_S, -2 * AN_HOUR_S], abs=5)
        assert each.of(telemetry.SupervisorDeclaredDead) == []


def is_later(beat: int, then: int) -> bool:
    return beat >= then + 3


def beats(dsn: str) -> list[int]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("SELECT beat FROM synk.client ORDER BY id")]


def test_t5_a_renewal_that_waited_for_a_lock_is_dated_before_it(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    register(storage, OWNER, TTL)
    with storage.heartbeat(OWNER) as heartbeat:
        with connection.transaction():
            connection.execute("SELECT FROM synk.client FOR UPDATE")
            thread = threading.Thread(target=heartbeat.beat)
            thread.start()
            wait_until(lambda: waits_for_a_lock(storage), what="the renewal to wait")
            time_at_lock = one_time(connection, "clock_timestamp()")
        thread.join()
    until = one_time(connection, "(SELECT lease_until FROM synk.client)")

    # From the time that it was sent, or earlier: whoever counts from there stops in time.
    assert until <= time_at_lock + TTL


def waits_for_a_lock(storage: PostgresStorage) -> bool:
    with storage.connector.single() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        ).fetchone()
    return row is not None and row[0] == 1


def one_time(connection: psycopg.Connection, expression: str) -> datetime:
    row = connection.execute(f"SELECT {expression}".encode()).fetchone()
    assert row is not None
    return row[0]
