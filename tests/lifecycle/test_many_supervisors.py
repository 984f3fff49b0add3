"""M: several supervisors on one database, and what they must not do to each other."""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

import synk
from support.facts import Facts
from support.jobs import handlers, tasks
from support.supervising import (
    SupervisorProcess,
    ended,
    is_running,
    make_client,
    supervised,
    wait_until,
)
from synk import CancelReason, Cause, Change, JobState, telemetry
from synk.claim import AckAnswer
from synk.status import Rescued
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OTHER, OWNER, acknowledge, claim, get, insert, register, status_of

TTL = timedelta(seconds=8)
OPTIONS = "{'lease_ttl': __import__('datetime').timedelta(seconds=8), 'processes': 1}"
PATIENT = {"default": synk.QueueConfig(job_timeout=timedelta(minutes=20))}


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with make_client(dsn) as client:
        yield client


def test_m1_two_supervisors_run_each_job_once(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    ids: list[int] = []
    by: set[str] = set()

    def insert_more() -> bool:
        numbers = range(len(ids), len(ids) + 300)
        ids.extend(client.insert_many([("x", handlers.Write(str(log), str(n))) for n in numbers]))
        done = client.storage.jobs(state=JobState.COMPLETED, limit=300)
        by.update(row.attempted_by[0] for row in client.storage.get([row.id for row in done]))
        return len(by) == 2 and len(ids) >= 3000

    with SupervisorProcess(dsn), SupervisorProcess(dsn):
        wait_until(insert_more)
        wait_until(lambda: client.storage.counts() == {JobState.COMPLETED: len(ids)})

    assert sorted(map(int, log.read_text().split())) == list(range(len(ids)))


def test_m2_a_supervisor_that_stood_still_for_half_its_lease_keeps_its_jobs(
    client: synk.Client, dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def half_is_over() -> bool:
        row = connection.execute(
            "SELECT lease_until - clock_timestamp() < interval '4.5 s' FROM synk.client"
            " WHERE id <> %s",
            (other.id.to_uuid(),),
        ).fetchone()
        return row == (True,)

    with SupervisorProcess(dsn, OPTIONS) as slow:
        job_id = client.insert("x", handlers.Once(str(log), 5.0))
        wait_until(lambda: is_running(client, job_id) and log.exists())
        with supervised(dsn, lease_ttl=TTL, processes=1) as other:
            facts = Facts(other)
            slow.signal(signal.SIGSTOP)
            wait_until(half_is_over, what="half of the lease to be over")
            slow.signal(signal.SIGCONT)
            row = ended(client, job_id)

    assert (row.state, row.attempt, row.lost) == (JobState.COMPLETED, 1, 0)
    assert facts.of(telemetry.SupervisorDeclaredDead) == []
    assert log.read_text().split() == ["1"]


def orphaned(storage: PostgresStorage, count: int = 1) -> list[int]:
    """Makes jobs that run under an owner whose lease is over and that was declared dead."""
    ids = [insert(storage) for _ in range(count)]
    register(storage, OTHER, timedelta(seconds=1))
    storage.get_job_available("default", count, kinds=["kind"], owner=OTHER, claim_seq=1)
    wait_until(lambda: storage.declare_dead(storage.leases()), what="the lease to be over")
    return ids


def test_m3_a_job_that_ends_between_the_look_and_the_rescue_is_not_rescued(
    storage: PostgresStorage,
) -> None:
    insert(storage)
    (job,) = claim(storage, owner=OTHER)
    storage.report_client(status_of(OTHER, stopped=True))
    dead = storage.dead_owners()
    assert dead == [OTHER]

    assert acknowledge(storage, job, owner=OTHER) is AckAnswer.APPLIED

    assert storage.rescue(dead, 100) == []
    assert (get(storage, job.id).state, get(storage, job.id).lost) == (JobState.COMPLETED, 0)


def test_m3_a_job_that_is_ending_is_left_alone_by_a_rescue(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    insert(storage)
    (job,) = claim(storage, owner=OTHER)
    storage.report_client(status_of(OTHER, stopped=True))
    dead = storage.dead_owners()

    with connection.transaction():
        done = connection.execute(
            "SELECT synk.complete(%s, %s, %s, %s, NULL)",
            (job.id, job.attempt, OTHER, job.claim_seq),
        ).fetchone()
        assert done == (True,)
        assert storage.rescue(dead, 100) == []

    assert storage.rescue(dead, 100) == []
    assert get(storage, job.id).state is JobState.COMPLETED


def test_m4_ten_thousand_jobs_of_the_living_hide_none_of_the_dead(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    register(storage, OWNER)
    connection.execute(
        "INSERT INTO synk.job (kind, name, state, owner, claim_seq, attempt)"
        " SELECT 'k', 'x', 'running', %s, 1, 1 FROM generate_series(1, 10001)",
        (OWNER,),
    )
    row = connection.execute(
        "INSERT INTO synk.job (kind, name, state, owner, claim_seq, attempt)"
        " VALUES ('k', 'x', 'running', %s, 1, 1) RETURNING id",
        (uuid.UUID(int=9),),
    ).fetchone()
    assert row is not None

    rescued = storage.rescue(storage.dead_owners(), 500)

    assert rescued == [Rescued(row[0], 1, JobState.AVAILABLE)]


def test_m5_jobs_of_a_kind_that_the_rescuer_does_not_know_keep_their_attempts(
    client: synk.Client, dsn: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        "INSERT INTO synk.job (kind, name, state, owner, claim_seq, attempt, max_attempts)"
        " SELECT 'unknown', 'x', 'running', gen_random_uuid(), 1, n, 3"
        " FROM generate_series(1, 3) AS n"
    )

    def rescued() -> list[synk.JobRow]:
        rows = client.storage.jobs(kind="unknown")[::-1]
        return rows if all(row.lost for row in rows) else []

    with supervised(dsn, workers=[handlers.noop]):
        rows = wait_until(rescued)

    states = [(row.state, row.cancel_reason, row.attempt) for row in rows]
    assert states == [
        (JobState.AVAILABLE, None, 1),
        (JobState.AVAILABLE, None, 2),
        (JobState.CANCELLED, CancelReason.FAILED, 3),
    ]


def test_m6_a_supervisor_whose_row_is_deleted_begins_anew_and_its_jobs_run_again(
    client: synk.Client, dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with supervised(dsn, lease_ttl=TTL, processes=1) as only:
        job_id = client.insert("x", handlers.Once(str(log)))
        wait_until(lambda: is_running(client, job_id) and log.exists())
        before = only.id
        connection.execute("DELETE FROM synk.client")
        row = ended(client, job_id)
        after = only.id

    assert (row.state, row.attempted_by) == (JobState.COMPLETED, [str(before), str(after)])
    assert row.errors[0].cause is Cause.LOST
    assert log.read_text().split() == ["1", "2"]


def test_m7_a_job_that_kills_its_worker_each_time_is_poison_and_costs_no_other_job(
    dsn: str, connection: psycopg.Connection
) -> None:
    def is_over() -> bool:
        # Its back-off is not waited for.
        connection.execute("UPDATE synk.job SET scheduled_at = now() WHERE state = 'scheduled'")
        row = client.get(bad)
        return row is not None and row.state.is_final

    with supervised(dsn, processes=1, workers=tasks.WORKERS) as client:
        bad = client.insert("x", tasks.Task("die"), synk.InsertOptions(max_retries=24))
        good = [client.insert("x", handlers.Noop()) for _ in range(10)]
        wait_until(is_over)
        row = ended(client, bad)
        others = [ended(client, job_id) for job_id in good]

    assert (row.state, row.cancel_reason, row.attempt) == (
        JobState.CANCELLED,
        CancelReason.POISON,
        3,
    )
    assert [error.signal for error in row.errors] == ["SIGKILL"] * 3
    assert {(other.state, other.attempt) for other in others} == {(JobState.COMPLETED, 1)}


def test_m8_a_cancel_whose_announcement_is_lost_ends_the_job_all_the_same(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    silent = PostgresStorage(dsn, pooler="transaction")
    with supervised(dsn, storage=silent, processes=1) as deaf:
        job_id = client.insert("x", handlers.Once(str(tmp_path / "log")))
        wait_until(lambda: is_running(client, job_id))
        wait_until(lambda: deaf.running()[0].job_id, what="the job to begin")
        assert client.cancel(job_id) is Change.REQUESTED
        row = ended(client, job_id)

    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)


def test_m8_a_cancel_wins_over_the_rescue_of_its_job(storage: PostgresStorage) -> None:
    (job_id,) = orphaned(storage)
    assert storage.cancel(job_id) is Change.REQUESTED

    storage.rescue(storage.dead_owners(), 10)

    row = get(storage, job_id)
    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)
    assert storage.cancel(job_id) is Change.REFUSED


def test_m9_a_running_job_is_neither_retried_nor_deleted_nor_let_go(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    with supervised(dsn, processes=1):
        gate = tmp_path / "gate"
        job_id = client.insert("x", handlers.Slow(str(gate)))
        wait_until(lambda: is_running(client, job_id))

        answers = [client.retry(job_id), client.delete(job_id), client.ready(job_id)]
        gate.touch()
        row = ended(client, job_id)

    assert answers == [Change.REFUSED] * 3
    assert (row.state, row.attempt) == (JobState.COMPLETED, 1)


def test_m10_many_rescue_at_once_without_a_leader_and_each_job_once(
    storage: PostgresStorage,
) -> None:
    ids = orphaned(storage, 200)
    taken: list[int] = []

    def rescue() -> None:
        while rescued := storage.rescue([OTHER], 7):
            taken.extend(each.job_id for each in rescued)

    threads = [threading.Thread(target=rescue) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Who found all rows locked stopped early; nothing is left all the same.
    rescue()

    assert sorted(taken) == ids
    assert {row.lost for row in storage.get(ids)} == {1}


def test_m11_an_idle_supervisor_gets_what_another_one_has_claimed_and_cannot_begin(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    log = str(tmp_path / "log")
    with supervised(dsn, processes=1, queues=PATIENT):
        # Jobs of this kind are short, as far as it knows, so many are claimed ahead.
        known = client.insert_many([("x", handlers.Write(log)) for _ in range(50)])
        for job_id in known:
            ended(client, job_id)
        stuck = (
            "x",
            handlers.Write(log, sleep_s=1000.0),
            synk.InsertOptions(priority=synk.Priority.CRITICAL),
        )
        stuck_id, *ids = client.insert_many([stuck, *[("x", handlers.Write(log))] * 50])
        wait_until(lambda: is_running(client, stuck_id))
        with supervised(dsn, processes=1) as idle:
            rows = [ended(client, job_id) for job_id in ids]
            names = {row.attempted_by[-1] for row in rows}
            name = str(idle.id)
        still = client.get(stuck_id)

    assert names == {name}
    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert all(row.attempt - row.uncounted == 1 for row in rows)
    assert still is not None
    assert still.state is JobState.RUNNING


def test_m11_a_queue_that_is_flooded_does_not_starve_another(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    log = str(tmp_path / "log")
    queues = {"default": synk.QueueConfig(), "rare": synk.QueueConfig()}
    with supervised(dsn, processes=1, queues=queues):
        flood = client.insert_many([("x", handlers.Write(log, sleep_s=0.15)) for _ in range(60)])
        rare = synk.InsertOptions(queue="rare", priority=synk.Priority.LOW)
        ids = [client.insert("x", handlers.Write(log, sleep_s=0.15), rare) for _ in range(3)]
        for job_id in ids:
            ended(client, job_id)
        left = [row.state for row in client.storage.get(flood)].count(JobState.AVAILABLE)

    assert left > 20
