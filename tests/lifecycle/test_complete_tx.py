"""Jobs that complete in their own transaction: their writes and their end are one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

import synk
from support.facts import Facts
from support.jobs.own_ends import completes_itself
from support.jobs.payments import Pay, Payer
from support.supervising import ended, supervised, wait_until
from synk import JobState, telemetry
from synk.claim import AckAnswer, ClaimedJob
from synk.job import Job
from synk.runtime.ipc import linux
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OWNER, claim, insert, outcome_of

REFUSES_ACCOUNTS = """
CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no more of this' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER refuses BEFORE UPDATE OF output ON synk.job FOR EACH ROW
WHEN (OLD.state = 'completed' AND NEW.state = 'completed') EXECUTE FUNCTION refuses()
"""


@pytest.fixture
def client(dsn: str, connection: psycopg.Connection) -> Iterator[synk.Client]:
    connection.execute("CREATE TABLE payment (job_id bigint, attempt integer)")
    with supervised(dsn, workers=[Payer()], processes=1) as client:
        yield client


def accounted(client: synk.Client, job_id: int) -> synk.JobRow:
    """Waits until a job that completes itself has its account; returns its row."""

    def row() -> synk.JobRow | None:
        found = client.get(job_id)
        return found if found and found.state.is_final and found.duration else None

    return wait_until(row, what=f"the account of job {job_id}")


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


def test_a_result_that_cannot_be_stored_stores_nothing_and_fails_the_job_at_once(
    client: synk.Client, dsn: str, connection: psycopg.Connection
) -> None:
    row = ended(client, client.insert("pay", Pay(dsn, "complete with a lock")))

    (error,) = row.errors
    assert (row.state, row.cancel_reason, row.attempt) == ("cancelled", "failed", 1)
    assert error.error.startswith("synk.errors.InvalidValue: result=<unlocked _thread.lock")
    assert "is not JSON: a _thread.lock cannot be stored" in error.error
    assert payments(connection) == []


def test_a_handler_that_heeds_it_may_complete_with_another_result(
    client: synk.Client, dsn: str, connection: psycopg.Connection
) -> None:
    row = ended(client, client.insert("pay", Pay(dsn, "complete with too much")))

    assert (row.state, row.result, row.errors) == (JobState.COMPLETED, "too much", [])
    assert payments(connection) == [(row.id, 1)]


def test_a_failure_after_the_commit_changes_nothing_any_more(client: synk.Client, dsn: str) -> None:
    facts = Facts(client)
    job_id = client.insert("pay", Pay(dsn, "fail after the commit"))

    row = accounted(client, job_id)
    ended(client, client.insert("pay", Pay(dsn)))

    assert client.get(job_id) == row
    assert (row.state, row.attempt, row.errors) == (JobState.COMPLETED, 1, [])
    refused = facts.wait_for(telemetry.OutcomeRefused)
    assert (refused.job_id, "stays completed" in str(refused)) == (job_id, True)


def test_a_job_that_completes_itself_leaves_its_account(client: synk.Client, dsn: str) -> None:
    row = accounted(client, client.insert("pay", Pay(dsn)))

    assert row.duration is not None
    assert row.cpu_time is not None
    assert timedelta(0) < row.cpu_time < 2 * row.duration
    assert row.peak_rss_bytes is not None
    assert row.peak_rss_bytes > 10_000_000
    assert (row.pid in linux.tagged_processes(str(client.id)), row.host) == (
        True,
        socket.gethostname(),
    )
    assert (row.output, row.result) == ("paid\n", {"paid": True})
    assert row.progress is not None
    assert row.progress.share == 1


def test_its_account_is_that_of_the_last_attempt(client: synk.Client, dsn: str) -> None:
    row = accounted(client, client.insert("pay", Pay(dsn, "fail before the commit")))

    assert (row.attempt, row.output) == (2, "paid\n")
    assert row.duration is not None
    assert row.errors[0].duration_s != row.duration.total_seconds()


@pytest.mark.parametrize("end", ["die", "hang"])
def test_a_job_that_is_killed_after_it_completed_itself_stays_completed(
    dsn: str, connection: psycopg.Connection, end: str
) -> None:
    connection.execute("CREATE TABLE payment (job_id bigint, attempt integer)")
    queues = {"default": synk.QueueConfig(job_timeout=timedelta(seconds=1))}
    with supervised(dsn, workers=[Payer()], processes=1, queues=queues) as client:
        row = accounted(client, client.insert("pay", Pay(dsn, f"{end} after the commit")))

    assert (row.state, row.attempt, row.errors) == (JobState.COMPLETED, 1, [])
    assert (row.crashes, row.output, row.result) == (0, "paid\n", {"paid": True})
    assert None not in (row.duration, row.cpu_time, row.peak_rss_bytes, row.pid)
    assert payments(connection) == [(row.id, 1)]


def test_its_account_waits_for_who_holds_its_row(
    dsn: str, storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    own, other = insert(storage), insert(storage)
    jobs = claim(storage)
    completes_itself(storage, OWNER, jobs[0])
    outcomes = [outcome_of(job, pid=7, duration_us=1) for job in jobs]

    with psycopg.connect(dsn) as holder:
        holder.execute("SELECT FROM synk.job WHERE id = %s FOR UPDATE", (own,))
        held = storage.update_job_state(OWNER, outcomes)
    later = storage.update_job_state(OWNER, outcomes)

    assert held == [AckAnswer.LOCKED, AckAnswer.DUPLICATE]
    assert later == [AckAnswer.COMPLETED, AckAnswer.DUPLICATE]
    assert {row.pid for row in storage.get([own, other])} == {7}


def test_its_account_comes_later_where_the_database_does_not_take_it_at_once(
    client: synk.Client, dsn: str, connection: psycopg.Connection
) -> None:
    """The statement that adds it is refused, as by a server that is short of something."""
    facts = Facts(client)
    connection.execute(REFUSES_ACCOUNTS)
    job_id = client.insert("pay", Pay(dsn))
    facts.wait_for(telemetry.StorageFailing)
    before = client.get(job_id)
    connection.execute("DROP TRIGGER refuses ON synk.job")

    row = accounted(client, job_id)

    assert before is not None
    assert (before.state, before.duration) == (JobState.COMPLETED, None)
    assert (row.state, row.output) == (JobState.COMPLETED, "paid\n")


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
