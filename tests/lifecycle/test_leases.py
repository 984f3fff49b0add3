"""Leases: dead, frozen and forgetful supervisors, and what becomes of their jobs."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

import synk
from support import servers
from support.jobs import handlers
from support.proxy import Proxy
from support.supervising import (
    SupervisorProcess,
    ended,
    is_running,
    make_client,
    supervised,
    wait_until,
)
from synk import CancelReason, Cause, JobState

TTL = timedelta(seconds=6)
SHORT = "{'lease_ttl': __import__('datetime').timedelta(seconds=6), 'processes': 1}"


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with make_client(dsn) as client:
        yield client


def begun(client: synk.Client, log: Path, sleep_s: float = 1000.0) -> int:
    """Inserts a job that runs for long the first time only, and waits until it runs."""
    job_id = client.insert("gated", handlers.Once(str(log), sleep_s))
    wait_until(lambda: is_running(client, job_id) and log.exists(), what="the job to begin")
    return job_id


def test_m10_jobs_of_a_killed_supervisor_run_elsewhere_after_its_lease(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with SupervisorProcess(dsn, SHORT) as dead:
        job_id = begun(client, log)
        dead.signal(signal.SIGKILL)
        dead.wait()

    with supervised(dsn, lease_ttl=TTL):
        row = ended(client, job_id)

    assert (row.state, row.attempt, row.lost) == (JobState.COMPLETED, 2, 1)
    (error,) = row.errors
    assert (error.cause, error.supervisor) == (Cause.LOST, dead.tag)
    assert log.read_text().split() == ["1", "2"]


def test_s3_a_frozen_supervisor_is_fenced_and_begins_anew(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with SupervisorProcess(dsn, SHORT) as frozen:
        job_id = begun(client, log)
        frozen.signal(signal.SIGSTOP)
        with supervised(dsn, lease_ttl=TTL):
            row = ended(client, job_id)
        frozen.signal(signal.SIGCONT)

        # It serves again, under another id.
        later = ended(client, client.insert("noop", handlers.Noop()))
        frozen.signal(signal.SIGTERM)
        code, _, err = frozen.wait()

    assert code == 0, err
    assert (row.state, row.attempt) == (JobState.COMPLETED, 2)
    assert client.get(job_id) == row
    assert later.attempted_by != [frozen.tag]
    assert "running jobs are killed" in err
    assert "beginning anew" in err


def test_s10_a_restart_on_the_same_host_does_not_take_the_dead_ones_name(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with SupervisorProcess(dsn, SHORT) as first:
        job_id = begun(client, log)
        first.signal(signal.SIGKILL)
        first.wait()
    with SupervisorProcess(dsn, SHORT) as second:
        row = ended(client, job_id)
        second.signal(signal.SIGTERM)
        second.wait()

    assert first.tag != second.tag
    assert row.attempted_by == [first.tag, second.tag]


def test_m6_jobs_whose_owner_is_not_on_record_are_taken_at_once(
    client: synk.Client, dsn: str, connection: psycopg.Connection
) -> None:
    job_id = client.insert("noop", handlers.Noop())
    connection.execute(
        "UPDATE synk.job SET state = 'running', attempt = 1, owner = %s, claim_seq = 1,"
        " attempted_by = '{nobody}' WHERE id = %s",
        (uuid.uuid4(), job_id),
    )

    with supervised(dsn):
        row = ended(client, job_id)

    assert (row.state, row.attempt, row.lost) == (JobState.COMPLETED, 2, 1)


def test_m7_a_job_that_loses_its_supervisor_three_times_is_poison(
    client: synk.Client, dsn: str, connection: psycopg.Connection
) -> None:
    job_id = client.insert("noop", handlers.Noop(), synk.InsertOptions(max_retries=100))
    connection.execute(
        "UPDATE synk.job SET state = 'running', attempt = 3, lost = 2, owner = %s, claim_seq = 1"
        " WHERE id = %s",
        (uuid.uuid4(), job_id),
    )

    with supervised(dsn):
        row = ended(client, job_id)

    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.POISON)


def test_s4_a_supervisor_that_cannot_renew_kills_its_jobs_before_others_may_run_them(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    with (
        servers.embedded_server() as server,
        server.database() as dsn,
        supervised(dsn, lease_ttl=TTL, processes=1) as client,
    ):
        job_id = begun(client, log)
        worker = wait_until(lambda: client.running()[0].pid)
        with server.frozen():
            wait_until(lambda: not Path(f"/proc/{worker}").exists(), what="the job to be killed")
        row = ended(client, job_id)

    assert row.state is JobState.COMPLETED
    assert row.errors[0].cause is Cause.LOST
    assert "could not renew its lease" in row.errors[0].error


def test_d7_an_outcome_that_the_server_lost_is_sent_again_and_the_job_not_run_again(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with supervised(dsn, lease_ttl=TTL) as client:
        row = ended(client, client.insert("write", handlers.Write(str(log))))
        # What a fail-over to a standby that was behind leaves.
        connection.execute(
            "UPDATE synk.job SET state = 'running', owner = acked_by, claim_seq = 1,"
            " finalized_at = NULL, acked_by = NULL, acked_attempt = NULL WHERE id = %s",
            (row.id,),
        )

        again = ended(client, row.id)

    assert (again.state, again.attempt, again.errors) == (JobState.COMPLETED, 1, [])
    assert log.read_text() == "x\n"


def test_d7_a_running_row_that_its_owner_does_not_know_is_offered_again_charged(
    dsn: str, connection: psycopg.Connection
) -> None:
    with supervised(dsn, lease_ttl=TTL) as client:
        job_id = client.insert("noop", handlers.Noop(), synk.InsertOptions(pending=True))
        connection.execute(
            "UPDATE synk.job SET state = 'running', attempt = 1, owner = %s, claim_seq = 999,"
            " held = false WHERE id = %s",
            (client.id.to_uuid(), job_id),
        )

        row = ended(client, job_id)

    assert (row.state, row.attempt, row.uncounted) == (JobState.COMPLETED, 2, 0)
    assert row.errors[0].cause is Cause.LOST


def test_d7_a_job_that_is_not_ours_any_more_is_killed(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with supervised(dsn, lease_ttl=TTL, processes=1) as client:
        job_id = begun(client, log)
        worker = wait_until(lambda: client.running()[0].pid)
        connection.execute(
            "UPDATE synk.job SET state = 'cancelled', cancel_reason = 'requested', owner = NULL,"
            " claim_seq = NULL, finalized_at = now() WHERE id = %s",
            (job_id,),
        )

        wait_until(lambda: not Path(f"/proc/{worker}").exists(), what="the job to be killed")
        row = client.get(job_id)

    assert row is not None
    assert (row.state, row.errors) == (JobState.CANCELLED, [])


def test_d7_after_its_connection_broke_a_supervisor_compares_its_jobs_at_once(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    with Proxy(dsn) as proxy, supervised(proxy.dsn, lease_ttl=2 * TTL, processes=1) as client:
        job_id = begun(client, tmp_path / "log")
        worker = wait_until(lambda: client.running()[0].pid)
        # What a fail-over to a standby that was behind leaves of a claim.
        connection.execute(
            "UPDATE synk.job SET state = 'pending', held = true, attempt = 0, owner = NULL,"
            " claim_seq = NULL WHERE id = %s",
            (job_id,),
        )

        proxy.reset()
        wait_until(lambda: not Path(f"/proc/{worker}").exists(), what="the job to be killed")
        beats = client.storage.leases()[0].beat

    # The sixth is when they are compared in any case.
    assert beats < 6


def test_d19_a_newer_schema_ends_the_supervisor_with_a_message(
    dsn: str, connection: psycopg.Connection
) -> None:
    with (  # noqa: PT012 - it is raised at the end of the block
        pytest.raises(synk.SchemaMismatch, match="start a newer synk"),
        supervised(dsn, lease_ttl=TTL) as client,
    ):
        ended(client, client.insert("noop", handlers.Noop()))
        connection.execute("INSERT INTO synk.migration (version, name) VALUES (9999, 'later')")
        wait_until(lambda: client._service is None, what="the supervisor to end")


def test_heartbeats_go_on_while_the_cpus_are_busy(dsn: str, connection: psycopg.Connection) -> None:
    def number() -> int:
        row = connection.execute("SELECT beat FROM synk.client").fetchone()
        return 0 if row is None else row[0]

    with supervised(dsn, lease_ttl=TTL, processes=4) as client:
        for _ in range(4):
            client.insert("spin", handlers.Misbehave("long_spin"))
        wait_until(lambda: all(slot.job_id for slot in client.running()))
        before = number()

        wait_until(lambda: number() >= before + 8)

        lease = connection.execute("SELECT lease_until > now() FROM synk.client").fetchone()
    assert lease == (True,)
