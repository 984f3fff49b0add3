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
from support.supervising import ended, is_running, supervised, wait_until
from synk import CancelReason, Cause, JobState
from synk.core.messages import Command, Event
from synk.core.pool import Pool
from synk.runtime.ipc import linux

ONCE = synk.InsertOptions(max_retries=0)


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with supervised(dsn) as client:
        yield client


def misbehave(client: synk.Client, how: str, path: object = "") -> synk.JobRow:
    return ended(client, client.insert(how, handlers.Misbehave(how, str(path)), ONCE))


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

    for job_id in ids[-50:]:
        ended(client, job_id)
    wait_until(lambda: client.storage.counts() == {JobState.COMPLETED: 2000})

    assert sorted(map(int, log.read_text().split())) == list(range(2000))


def test_arguments_of_a_megabyte_reach_the_worker(client: synk.Client) -> None:
    row = ended(client, client.insert("big", handlers.StructArgs(path="x" * 900_000), ONCE))

    # It came through: only the result was too large for a row.
    assert last_error(row).error.startswith("ValueError: the result is 900002 bytes")


def test_p8_arguments_that_do_not_fit_their_type_are_a_decode_failure(
    client: synk.Client, connection
) -> None:
    job_id = connection.execute(
        "INSERT INTO synk.job (kind, name, max_attempts, args)"
        " VALUES ('typed', 'x', 1, '{\"count\": \"many\"}') RETURNING id"
    ).fetchone()[0]

    row = ended(client, job_id)

    assert row.cancel_reason is CancelReason.FAILED
    assert last_error(row).cause is Cause.DECODE
    assert "count" in last_error(row).error


def test_p7_a_kind_without_worker_is_left_for_others(client: synk.Client, connection) -> None:
    foreign = connection.execute(
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


def test_a_group_comes_back_with_its_members(client: synk.Client) -> None:
    exception = last_error(misbehave(client, "raise_group")).as_exception()

    assert isinstance(exception, ExceptionGroup)
    assert [str(member) for member in exception.exceptions] == ["one", "two"]


@pytest.mark.parametrize(
    ("how", "shown"),
    [
        ("raise_custom", "CustomError: code 7"),
        ("raise_nul", "ValueError: before␀after"),
        ("recurse", "RecursionError"),
        ("sys_exit", "SystemExit: 3"),
        ("set_result", "ValueError: the result is not JSON"),
        ("huge_result", "ValueError: the result is 1000002 bytes"),
    ],
)
def test_p1_p2_p4_a_failure_is_recorded_whatever_it_carries(
    client: synk.Client, how: str, shown: str
) -> None:
    error = last_error(misbehave(client, how))

    assert error.cause is Cause.EXCEPTION
    assert shown in error.error
    assert len(error.to_json()) < 70_000


@pytest.mark.parametrize(
    ("how", "cause", "signal_name", "code"),
    [
        ("segv", Cause.SIGNAL, "SIGSEGV", None),
        ("kill_self", Cause.SIGNAL, "SIGKILL", None),
        ("os_exit", Cause.EXIT, None, 0),
    ],
)
def test_the_death_of_a_worker_is_its_jobs_failure(
    client: synk.Client, how: str, cause: Cause, signal_name: str | None, code: int | None
) -> None:
    error = last_error(misbehave(client, how))

    assert (error.cause, error.signal, error.exit_code) == (cause, signal_name, code)


def test_a_segmentation_fault_leaves_the_stack_of_that_moment(client: synk.Client) -> None:
    trace = last_error(misbehave(client, "segv")).trace

    assert "Segmentation fault" in trace
    assert "in segv" in trace


@pytest.mark.parametrize("how", ["spin", "hold_gil", "block_signals"])
def test_a_job_past_its_timeout_is_killed(client: synk.Client, how: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    row = misbehave(client, how, log)

    error = last_error(row)
    assert error.cause is Cause.TIMEOUT
    assert "the timeout of its worker is 0.5 s" in error.error
    assert error.duration_s == pytest.approx(0.5, abs=2)
    pid = int(log.read_text().split()[-1])
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("how", ["spin", "hold_gil"])
def test_a_killed_job_leaves_its_stack(client: synk.Client, how: str) -> None:
    assert f"in {how}" in last_error(misbehave(client, how)).trace


def test_a_timeout_takes_the_jobs_children_with_it(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"

    error = last_error(misbehave(client, "hanging_child", log))

    assert error.cause is Cause.TIMEOUT
    child = int(log.read_text().split("started=")[1])
    wait_until(lambda: not Path(f"/proc/{child}").exists() or _is_zombie(child))


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_the_others_notice_nothing_of_a_death(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    slow = client.insert("slow", handlers.Write(str(log), "slow", sleep_s=1.0))
    wait_until(log.exists)

    for how in ("segv", "os_exit", "spin"):
        misbehave(client, how)
    row = ended(client, slow)

    assert (row.state, row.attempt) == (JobState.COMPLETED, 1)
    assert log.read_text() == "slow\n"


def test_a_fork_that_comes_back_gives_one_outcome(client: synk.Client, tmp_path: Path) -> None:
    row = misbehave(client, "fork_returns")

    assert row.state is JobState.COMPLETED
    assert ended(client, client.insert("noop", handlers.Noop())).state is JobState.COMPLETED


def test_a_job_that_closes_everything_costs_only_its_own_process(client: synk.Client) -> None:
    row = misbehave(client, "close_descriptors")

    assert row.state in (JobState.COMPLETED, JobState.CANCELLED)
    assert ended(client, client.insert("noop", handlers.Noop())).state is JobState.COMPLETED


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


def test_a_running_job_is_cancelled_within_moments(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    job_id = client.insert("x", handlers.Misbehave("long_child", str(log)))
    wait_until(lambda: log.exists() and "started=" in log.read_text())

    answer = client.cancel(job_id)
    row = ended(client, job_id)

    assert answer is synk.Change.REQUESTED
    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)
    assert last_error(row).cause is Cause.CANCELLED
    child = int(log.read_text().split("started=")[1])
    wait_until(lambda: not Path(f"/proc/{child}").exists() or _is_zombie(child))


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


def test_a_scheduled_job_runs_when_it_is_due(client: synk.Client, connection) -> None:
    now = connection.execute("SELECT now()").fetchone()[0]
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


def test_a_row_inserted_by_plain_sql_runs(client: synk.Client, connection) -> None:
    job_id = connection.execute(
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


def test_spawn_works_where_forking_is_unwanted(dsn: str) -> None:
    with supervised(dsn, start_method="spawn", processes=1) as client:
        row = ended(client, client.insert("typed", handlers.Typed(1)))
        killed = misbehave(client, "hold_gil")

    assert row.state is JobState.COMPLETED
    assert last_error(killed).cause is Cause.TIMEOUT


def test_workers_hold_no_descriptor_of_the_database(client: synk.Client) -> None:
    opened = misbehave(client, "descriptors").result

    assert isinstance(opened, list)
    assert [item for item in opened if str(item).startswith("/memfd:")]
    # The channel to the supervisor, and nothing else that could be a connection.
    assert len([item for item in opened if str(item).startswith("socket:")]) == 1


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


def test_processes_carry_the_supervisors_tag(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    job_id = client.insert("x", handlers.Misbehave("long_child", str(log)))
    wait_until(lambda: log.exists() and "started=" in log.read_text())

    child = int(log.read_text().split("started=")[1])

    assert child in linux.tagged_processes(str(client.id))
    assert is_running(client, job_id)


def test_a_failing_engine_gives_its_jobs_back_and_leaves_no_process(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the supervisor costs nobody an attempt."""
    log = tmp_path / "log"

    def broken(self: Pool, event: Event, now: float) -> list[Command]:
        if log.exists():
            raise AssertionError("a bug")
        return handle(self, event, now)

    handle = Pool.handle
    rows: list[synk.JobRow] = []
    left: list[int] = []
    monkeypatch.setattr(Pool, "handle", broken)
    # One worker: a second one might be done with the short jobs before the long one begins.
    with pytest.raises(AssertionError, match="a bug"), supervised(dsn, processes=1) as client:  # noqa: PT012
        tag = str(client.id)
        jobs = [("x", handlers.Write(str(log), sleep_s=1000)), *[("y", handlers.Noop())] * 3]
        ids = client.insert_many(jobs)
        wait_until(log.exists, what="the job to begin")
        wait_until(lambda: client._service is None, what="the supervisor to fail")

        rows += client.storage.get(ids)
        left += linux.tagged_processes(tag)

    assert len(rows) == 4
    assert {row.state for row in rows} == {JobState.AVAILABLE}
    assert all(row.attempt == row.uncounted for row in rows)
    assert left == []
