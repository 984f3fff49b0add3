"""What people can see of jobs and supervisors, on this PostgreSQL and on an older one."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from synk.row import CancelReason, JobState
from synk.status import RecentError, SlotStatus, UnknownKind
from synk.storage.postgres import PostgresStorage
from synk.testing.making import (
    AN_HOUR,
    FUTURE,
    NOW,
    OTHER,
    OWNER,
    acknowledge,
    claim,
    fail,
    insert,
    new_job,
    register,
    status_of,
)


@pytest.fixture(params=["dsn", "server15_dsn"])
def storage(request: pytest.FixtureRequest) -> Iterator[PostgresStorage]:
    storage = PostgresStorage(request.getfixturevalue(request.param))
    yield storage
    storage.close()


def listed(storage: PostgresStorage, **filters: Any) -> list[int]:
    return [row.id for row in storage.jobs(**filters)]


def test_jobs_are_listed_newest_first_by_what_is_asked(storage: PostgresStorage) -> None:
    first = insert(storage)
    slow = insert(storage, queue="slow", scheduled_at=FUTURE)
    other = insert(storage, queue="slow", kind="other")

    assert listed(storage) == [other, slow, first]
    assert listed(storage, limit=2) == [other, slow]
    assert listed(storage, state=JobState.AVAILABLE) == [other, first]
    assert listed(storage, queue="slow", kind="kind") == [slow]
    assert listed(storage, state=JobState.RUNNING) == []


def test_counts_are_by_state_and_queue(storage: PostgresStorage) -> None:
    storage.insert([new_job(), new_job()])
    insert(storage, queue="slow")
    insert(storage, queue="slow", scheduled_at=FUTURE)

    assert storage.counts() == {JobState.AVAILABLE: 3, JobState.SCHEDULED: 1}
    assert storage.counts("slow") == {JobState.AVAILABLE: 1, JobState.SCHEDULED: 1}
    assert storage.counts("none") == {}


def test_a_summary_says_what_the_kinds_took(storage: PostgresStorage) -> None:
    ids = storage.insert([new_job() for _ in range(7)])
    *done, failed = claim(storage, 5)
    storage.cancel(ids[-1])
    for seconds, job in enumerate(done, 1):
        acknowledge(storage, job, duration_us=seconds * 1_000_000, cpu_us=500_000)
    fail(storage, failed, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)
    insert(storage, kind="another")

    another, kind = storage.summary()

    assert (kind.kind, kind.completed, kind.unfinished, kind.errors) == ("kind", 4, 1, 1)
    assert (kind.cancelled, kind.failed) == (2, 1)
    assert kind.cpu_time == dt.timedelta(seconds=2)
    assert kind.duration_p95 == dt.timedelta(seconds=4)
    assert (another.kind, another.unfinished, another.duration_p50) == ("another", 1, None)
    assert storage.summary("none") == []


def test_supervisors_are_listed_with_what_they_report(storage: PostgresStorage) -> None:
    register(storage, OWNER)
    register(storage, OTHER)
    slots = [SlotStatus(slot=0, pid=7, job_id=1, kind="k"), SlotStatus(slot=1)]
    error = RecentError(job_id=1, attempt=2, kind="k", error="e", seconds=1.5)

    storage.report_client(status_of(OWNER, slots=slots, errors=[error]))
    storage.report_client(status_of(OTHER, stopped=True))
    storage.report_client(status_of(uuid.UUID(int=1)))

    running, stopped = storage.clients(AN_HOUR)
    assert (running.id, running.runs, running.slots, running.errors) == (
        OWNER, True, slots, [error],
    )  # fmt: skip
    assert (running.host, running.pid, running.version) == (status_of(OWNER).host, 123, "1.2.3")
    assert (running.processes, running.queues) == (2, ["default", "slow"])
    assert (stopped.id, stopped.runs) == (OTHER, False)
    assert stopped.stopped_at is not None
    assert storage.clients(NOW) == []


def test_a_running_job_can_be_asked_where_it_is(storage: PostgresStorage) -> None:
    running, waiting = insert(storage), insert(storage)
    claim(storage, 1)

    question = storage.ask_stack(running)

    assert question is not None
    assert storage.ask_stack(waiting) is None
    assert storage.stack_questions(OWNER) == [(question, running)]
    assert storage.stack_questions(OTHER) == []
    assert storage.stack_answer(question) is None
    storage.answer_stack(question, "here")
    assert storage.stack_answer(question) == "here"
    assert storage.stack_questions(OWNER) == []


def test_queue_depths_count_what_waits_and_runs(storage: PostgresStorage) -> None:
    for queue in ("default", "default", "b"):
        insert(storage, queue=queue)
    insert(storage, scheduled_at=FUTURE)
    insert(storage, pending=True)
    claim(storage, 1)

    depths = storage.queue_depths()

    assert depths.available == {"default": 1, "b": 1}
    assert depths.running == {"default": 1}
    assert depths.scheduled == 1


def test_a_kind_that_waits_and_that_no_supervisor_of_its_queue_knows_is_found(
    storage: PostgresStorage,
) -> None:
    storage.register_client(status_of(OWNER, kinds=("a", "b")), AN_HOUR)
    storage.register_client(status_of(OTHER, queues=("slow",), kinds=("c",)), AN_HOUR)
    ids = [insert(storage, kind=kind) for kind in ("a", "x", "c", "x", "a")]
    slow = [insert(storage, queue="slow", kind=kind) for kind in ("a", "c", "x")]

    found = storage.unknown_kinds()

    assert found == [
        UnknownKind(queue="default", kind="x", count=2, is_more=False, job_id=ids[1]),
        UnknownKind(queue="default", kind="c", count=1, is_more=False, job_id=ids[2]),
        UnknownKind(queue="slow", kind="x", count=1, is_more=False, job_id=slow[2]),
    ]
    assert storage.unknown_kinds(["slow"]) == found[2:]
    assert storage.unknown_kinds(["nobodys"]) == []
    (of_other,) = [row for row in storage.clients(AN_HOUR) if row.id == OTHER]
    assert of_other.kinds == ["c"]


def test_nothing_is_said_of_kinds_where_nobody_serves_or_one_does_not_say_what_it_knows(
    storage: PostgresStorage,
) -> None:
    insert(storage, kind="x")
    nobody = storage.unknown_kinds()
    storage.register_client(status_of(OWNER, kinds=("a",)), AN_HOUR)
    one = storage.unknown_kinds()
    storage.register_client(status_of(OTHER), AN_HOUR)
    two = storage.unknown_kinds()
    storage.report_client(status_of(OTHER, stopped=True))
    again = storage.unknown_kinds()
    storage.report_client(status_of(OWNER, stopped=True))

    assert [len(each) for each in (nobody, one, two, again)] == [0, 1, 0, 1]
    assert storage.unknown_kinds() == []


def test_only_a_kind_that_could_run_now_is_said_to_be_unknown(storage: PostgresStorage) -> None:
    insert(storage, kind="kind")
    claim(storage)
    storage.report_client(status_of(OWNER, stopped=True))
    storage.register_client(status_of(OTHER, kinds=()), AN_HOUR)
    insert(storage, kind="later", scheduled_at=FUTURE)
    insert(storage, kind="held", pending=True)
    storage.cancel(insert(storage, kind="cancelled"))
    job_id = insert(storage, kind="now")

    assert [each.job_id for each in storage.unknown_kinds()] == [job_id]
