"""Jobs that complete in their own transaction: their writes and their end are one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

import synk
from lifecycle.payments import Pay, Payer
from supervising import ended, supervised, wait_until
from synk import JobState
from synk.claim import ClaimedJob
from synk.job import Job


@pytest.fixture
def client(dsn: str, connection: psycopg.Connection) -> Iterator[synk.Client]:
    connection.execute("CREATE TABLE payment (job_id bigint, attempt integer)")
    with supervised(dsn, workers=[Payer()], processes=1) as client:
        yield client


def payments(connection: psycopg.Connection) -> list[tuple[int, int]]:
    return connection.execute("SELECT job_id, attempt FROM payment ORDER BY 1, 2").fetchall()


def test_the_writes_and_the_end_are_one(
    client: synk.Client, dsn: str, connection: psycopg.Connection
) -> None:
    job_id = client.insert("pay", Pay(dsn))

    row = ended(client, job_id)

    assert (row.state, row.attempt, row.result) == (JobState.COMPLETED, 1, {"paid": True})
    assert payments(connection) == [(job_id, 1)]


def test_a_failure_before_the_commit_undoes_both(
    client: synk.Client, dsn: str, connection: psycopg.Connection
) -> None:
    job_id = client.insert("pay", Pay(dsn, "fail before the commit"))

    row = ended(client, job_id)

    assert (row.state, row.attempt, len(row.errors)) == (JobState.COMPLETED, 2, 1)
    assert payments(connection) == [(job_id, 2)]


def test_a_failure_after_the_commit_changes_nothing_any_more(
    client: synk.Client, dsn: str, connection: psycopg.Connection
) -> None:
    job_id = client.insert("pay", Pay(dsn, "fail after the commit"))

    row = ended(client, job_id)
    ended(client, client.insert("pay", Pay(dsn)))

    assert client.get(job_id) == row
    assert (row.state, row.attempt, row.errors) == (JobState.COMPLETED, 1, [])


def test_an_attempt_that_lost_its_claim_writes_nothing(
    client: synk.Client, dsn: str, connection: psycopg.Connection
) -> None:
    job_id = client.insert("pay", Pay(dsn, "stolen"))
    # Another claim owns the row by then.
    wait_until(lambda: (row := client.get(job_id)) and row.state is JobState.RUNNING)
    ended(client, client.insert("pay", Pay(dsn)))

    assert (job_id, 1) not in payments(connection)
    row = client.get(job_id)
    assert row is not None
    assert (row.state, row.attempt) == (JobState.RUNNING, 1)


def test_a_job_made_by_hand_needs_no_database() -> None:
    now = datetime.now(timezone.utc)
    at = now.timestamp()
    claimed = ClaimedJob(1, 1, "pay", 3, at, 7, 0, "x", at, at, "{}", None)
    job = Job(claimed, Pay("nowhere"), "01M891DBMN0W53JKNW61V67FS1")

    job.complete_tx(None, {"paid": True})

    assert job.fence.attempt == 1
    assert job.created_at + timedelta(0) == now
