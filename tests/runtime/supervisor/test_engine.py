"""One supervisor, real worker processes, jobs of every kind."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

import synk
from support.jobs import handlers, validated
from support.supervising import ended, supervised, wait_until
from synk import CancelReason, Cause, JobState

ONCE = synk.InsertOptions(max_retries=0)


@pytest.fixture(scope="module")
def client(shared_dsn: str) -> Iterator[synk.Client]:
    with supervised(shared_dsn) as client:
        yield client


def misbehave(client: synk.Client, how: str, path: object = "") -> synk.JobRow:
    return ended(client, client.insert(how, handlers.Misbehave(how, str(path)), ONCE))


def all_ended(client: synk.Client, ids: list[int]) -> list[synk.JobRow] | None:
    rows = client.storage.get(ids)
    return rows if all(row.state.is_final for row in rows) else None


def last_error(row: synk.JobRow) -> synk.AttemptError:
    assert len(row.errors) == row.attempt
    return row.errors[-1]


def test_a_job_runs_and_leaves_its_result_and_measures(client: synk.Client) -> None:
    row = ended(client, client.insert("typed", handlers.Typed(21, ["a"])))

    assert row.state is JobState.COMPLETED
    assert row.result == {"double": 42, "tags": ["a"], "attempt": 1}
    assert row.attempted_by == [str(client.id)]
    assert row.duration is not None
    assert row.duration > timedelta(0)
    assert row.cpu_time is not None
    assert row.finalized_at is not None
    assert row.errors == []


def test_struct_and_pydantic_arguments_arrive_in_their_type(dsn: str) -> None:
    with supervised(dsn, workers=[handlers.struct, validated.model]) as client:
        one = ended(client, client.insert("struct", handlers.StructArgs(path="a.jpg")))
        other = ended(client, client.insert("model", validated.ModelArgs(width=5)))

    assert (one.result, other.result) == ("a.jpg", 5)


def test_many_jobs_run_once_each(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ids = client.insert_many([("write", handlers.Write(str(log), str(n))) for n in range(2000)])

    rows = wait_until(lambda: all_ended(client, ids), what="all jobs to end")

    assert {(row.state, row.attempt) for row in rows} == {(JobState.COMPLETED, 1)}

    assert sorted(map(int, log.read_text().split())) == list(range(2000))


def test_arguments_of_a_megabyte_reach_the_worker(client: synk.Client) -> None:
    row = ended(client, client.insert("big", handlers.StructArgs(path="x" * 900_000), ONCE))

    # It came through: only the result was too large for a row.
    assert last_error(row).error.startswith("ValueError: the result is 900002 bytes")


def test_p8_arguments_that_do_not_fit_their_type_are_a_decode_failure(
    client: synk.Client, shared_connection
) -> None:
    job_id = shared_connection.execute(
        "INSERT INTO synk.job (kind, name, max_attempts, args)"
        " VALUES ('typed', 'x', 1, '{\"count\": \"many\"}') RETURNING id"
    ).fetchone()[0]

    row = ended(client, job_id)

    assert row.cancel_reason is CancelReason.FAILED
    assert last_error(row).cause is Cause.DECODE
    assert "count" in last_error(row).error


def test_p7_a_kind_without_worker_is_left_for_others(
    client: synk.Client, shared_connection
) -> None:
    foreign = shared_connection.execute(
        "INSERT INTO synk.job (kind, name, priority) VALUES ('foreign', 'x', 1) RETURNING id"
    ).fetchone()[0]

    ours = [ended(client, client.insert("noop", handlers.Noop())) for _ in range(3)]

    assert {row.state for row in ours} == {JobState.COMPLETED}
    row = client.get(foreign)
    assert row is not None
    assert (row.state, row.attempt) == (JobState.AVAILABLE, 0)


def test_p7_a_kind_that_nobody_knows_is_told_of_in_the_log(
    dsn: str, connection, caplog: pytest.LogCaptureFixture
) -> None:
    connection.execute(
        "INSERT INTO synk.job (kind, name) SELECT 'misspelt', 'x' FROM generate_series(1, 3)"
    )
    with supervised(dsn) as client:
        wait_until(lambda: "misspelt" in caplog.text)
        ended(client, client.insert("noop", handlers.Noop()))

    (told,) = [record for record in caplog.records if "misspelt" in record.getMessage()]
    assert told.levelname == "WARNING"
    assert told.getMessage() == (
        "no supervisor knows kind misspelt in queue default: 3 jobs since job 1; add its worker to "
        "the client that serves the queue (workers=[...]) and start that anew, or cancel them"
    )


def test_p7_thousands_that_nobody_knows_keep_no_other_job_waiting(
    dsn: str, connection, tmp_path: Path
) -> None:
    """They are the most urgent, and the oldest: each claim meets them first."""
    connection.execute(
        "INSERT INTO synk.job (kind, name, priority) SELECT 'foreign', 'x', 1 + n % 4"
        " FROM generate_series(1, 8000) AS n"
    )
    queues = {name: synk.QueueConfig() for name in ("default", "other")}
    log = tmp_path / "log"
    with supervised(dsn, queues=queues) as client:
        ids = [
            client.insert(
                "x",
                handlers.Write(str(log), str(n)),
                synk.InsertOptions(
                    queue=("default", "other")[n % 2], priority=synk.Priority(1 + n % 4)
                ),
            )
            for n in range(200)
        ]
        waits = [
            row.attempted_at - row.scheduled_at
            for row in (ended(client, job_id) for job_id in ids)
            if row.attempted_at is not None
        ]
        assert client.storage.counts() == {JobState.AVAILABLE: 8000, JobState.COMPLETED: 200}

    assert sorted(map(int, log.read_text().split())) == list(range(200))
    assert max(waits) < timedelta(seconds=10)


def test_an_exception_comes_back_with_its_remote_frames_cause_and_notes(
    client: synk.Client,
) -> None:
    error = last_error(misbehave(client, "raise_chain"))

    assert (error.cause, error.error) == (Cause.EXCEPTION, "ValueError: the top")
    assert "inner_function" in error.trace
    assert "child.py" not in error.trace
    exception = error.as_exception()
    assert isinstance(exception, ValueError)
    assert isinstance(exception.__cause__, LookupError)
    shown = "".join(traceback.format_exception(exception))
    assert "inner_function" in shown
    assert "a note on it" in shown
    assert error.pid not in (None, os.getpid())
    assert error.supervisor == str(client.id)


def test_a_failed_job_is_tried_again_when_its_worker_says(client: synk.Client) -> None:
    row = ended(client, client.insert("x", handlers.Misbehave("second_attempt")))

    assert (row.state, row.attempt) == (JobState.COMPLETED, 2)
    assert row.result == "RuntimeError: not yet"
    assert len(row.errors) == 1
    assert len(row.attempted_by) == 2


def test_a_failed_job_waits_for_the_default_back_off(client: synk.Client) -> None:
    job_id = client.insert("x", handlers.Misbehave("raise_chain"))

    row = wait_until(lambda: (r := client.get(job_id)) and r.errors and r)

    assert row.state is JobState.SCHEDULED
    assert row.attempted_at is not None
    assert 3.5 < (row.scheduled_at - row.attempted_at).total_seconds() < 8


def test_dependents_run_after_what_they_depend_on(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = client.insert("1", handlers.Write(str(log), "first", sleep_s=0.3))
    second = client.insert(
        "2", handlers.Write(str(log), "second"), synk.InsertOptions(depends_on=(first,))
    )

    row = ended(client, second)

    assert row.state is JobState.COMPLETED
    assert log.read_text().split() == ["first", "second"]


def test_a_failed_dependency_cancels_its_dependents(client: synk.Client) -> None:
    bad = client.insert("bad", handlers.Misbehave("os_exit"), ONCE)
    after = client.insert("after", handlers.Noop(), synk.InsertOptions(depends_on=(bad,)))

    row = ended(client, after)

    assert (row.cancel_reason, row.attempt) == (CancelReason.DEPENDENCY, 0)


def test_a_scheduled_job_runs_when_it_is_due(client: synk.Client, shared_connection) -> None:
    now = shared_connection.execute("SELECT now()").fetchone()[0]
    job_id = client.insert(
        "later", handlers.Noop(), synk.InsertOptions(scheduled_at=now + timedelta(seconds=0.5))
    )

    row = ended(client, job_id)

    assert row.attempted_at is not None
    assert row.attempted_at >= row.scheduled_at


def test_a_pending_job_waits_until_it_is_ready(client: synk.Client) -> None:
    job_id = client.insert("x", handlers.Noop(), synk.InsertOptions(pending=True))
    ended(client, client.insert("y", handlers.Noop()))
    row = client.get(job_id)
    assert row is not None
    assert row.state is JobState.PENDING

    assert client.ready(job_id) is synk.Change.APPLIED

    assert ended(client, job_id).state is JobState.COMPLETED


def test_a_row_inserted_by_plain_sql_runs(client: synk.Client, shared_connection) -> None:
    job_id = shared_connection.execute(
        "INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority,"
        " name, depends_on) VALUES ('default', 'typed', '{\"count\": 4}', 7, 'available', now(),"
        " 3, 'from psql', '{}') RETURNING id"
    ).fetchone()[0]

    row = ended(client, job_id)

    assert row.result == {"double": 8, "tags": [], "attempt": 1}


def test_queues_have_their_own_caps_and_timeouts(dsn: str, tmp_path: Path) -> None:
    queues = {
        "one": synk.QueueConfig(max_workers=1),
        "brief": synk.QueueConfig(job_timeout=timedelta(seconds=0.3)),
    }
    log = tmp_path / "log"
    with supervised(dsn, queues=queues, processes=3) as client:
        one = synk.InsertOptions(queue="one")
        for _ in range(3):
            client.insert("w", handlers.Write(str(log), "w", sleep_s=0.2), one)
        brief = synk.InsertOptions(queue="brief", max_retries=0)
        late = client.insert("late", handlers.Write(str(log), "late", sleep_s=9), brief)
        row = ended(client, late)
        wait_until(lambda: client.storage.counts("one") == {JobState.COMPLETED: 3})

        rows = client.storage.jobs(state=None, queue="one", kind=None, limit=10)

    assert row.errors[-1].cause is Cause.TIMEOUT
    starts = sorted(r.attempted_at.timestamp() for r in rows if r.attempted_at)
    assert all(later - earlier > 0.15 for earlier, later in pairwise(starts))


def test_the_cleaner_removes_what_is_old_enough(dsn: str) -> None:
    cleaner = synk.CleanerConfig(
        clean_interval=timedelta(seconds=0.2), by_status={JobState.COMPLETED: timedelta(0)}
    )
    with supervised(dsn, cleaner=cleaner) as client:
        done = client.insert("x", handlers.Noop())
        failed = client.insert("x", handlers.Misbehave("os_exit"), ONCE)

        wait_until(lambda: client.get(done) is None)

        assert ended(client, failed).state is JobState.CANCELLED


def test_an_idle_supervisor_starts_a_new_job_at_once(dsn: str) -> None:
    queues = {"default": synk.QueueConfig(time_fetch=timedelta(hours=1))}
    with supervised(dsn, queues=queues) as client:
        ended(client, client.insert("x", handlers.Noop()))
        # The interval is an hour: only the announcement can have started this one.
        row = ended(client, client.insert("x", handlers.Noop()))

    assert row.state is JobState.COMPLETED


def test_a_worker_that_cannot_be_imported_is_reported(dsn: str, tmp_path: Path) -> None:
    with (
        pytest.raises(synk.WorkerStartError, match="no_such_module"),
        supervised(dsn, preload=["no_such_module"]) as client,
    ):
        wait_until(lambda: client._service is None, what="the supervisor to give up")
