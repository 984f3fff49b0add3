"""Running jobs that are cancelled: told first, killed later, and reported when all is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import synk
from support.acting import acting, begun, error_of, insert, is_gone, lines, noted, run
from support.jobs.acts import Act
from support.supervising import ended, is_running, wait_until
from synk import CancelReason, Cause, Change, JobState

GRACE = timedelta(seconds=0.4)


@pytest.fixture(scope="module")
def client(shared_dsn: str) -> Iterator[synk.Client]:
    with acting(shared_dsn, cancel_grace=GRACE) as client:
        yield client


def test_a_cancelled_job_may_tidy_up_and_is_over_when_its_processes_are(
    client: synk.Client, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    job_id = insert(client, "end_at_cancel", log=log)
    child = int(noted(log, "child")[1])

    answer = client.cancel(job_id)
    row = ended(client, job_id)

    # At once, without waiting: the row says so only after this is true.
    assert is_gone(child)
    assert row.pid is not None
    assert is_gone(row.pid)
    assert answer is Change.REQUESTED
    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)
    assert row.cancel_requested_at is not None
    assert lines(log)[-1] == ["tidied", "up", "True"]
    error = error_of(row)
    assert error.cause is Cause.CANCELLED
    assert error.error.endswith("JobCancelled: cancel was requested")
    assert "in end_at_cancel" in error.trace


@pytest.mark.parametrize("do", ["swallow", "count_in_c", "ignore_signals", "stop_self"])
def test_a_job_that_does_not_follow_is_killed_after_the_grace(
    client: synk.Client, tmp_path: Path, do: str
) -> None:
    log = tmp_path / "log"
    job_id = insert(client, do, retries=5, log=log)
    pid = begun(log, do)

    client.cancel(job_id)
    row = ended(client, job_id)

    assert is_gone(pid)
    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)
    error = error_of(row)
    assert error.cause is Cause.CANCELLED
    assert "cancel was requested" in error.error
    assert error.error.startswith("killed after ")
    assert row.finalized_at is not None
    assert row.cancel_requested_at is not None
    assert row.finalized_at - row.cancel_requested_at >= GRACE
    if do == "count_in_c":
        assert f"in {do}" in error.trace


def test_during_the_grace_the_job_still_runs(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    job_id = insert(client, "swallow", log=log)
    begun(log, "swallow")

    client.cancel(job_id)
    noted(log, "swallowed")

    assert is_running(client, job_id)
    assert ended(client, job_id).state is JobState.CANCELLED
    # It was told once, not for ever.
    assert lines(log)[1:] == [["swallowed", "JobCancelled"]]


def test_a_cancelled_job_that_completes_in_time_has_completed(
    client: synk.Client, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    job_id = insert(client, "notice_cancel", log=log)
    noted(log, "before")

    client.cancel(job_id)
    row = ended(client, job_id)

    assert lines(log)[1] == ["before", "False"]
    assert (row.state, row.result, row.errors) == (JobState.COMPLETED, "cancelled=True", [])


def test_a_cancel_reaches_no_other_job(client: synk.Client) -> None:
    jobs = [("x", Act("run_for", number=20_000))] * 60
    ids = client.insert_many(jobs)

    for job_id in ids[::2]:
        client.cancel(job_id)
    rows = [ended(client, job_id) for job_id in ids]

    for row in rows[1::2]:
        assert (row.state, row.attempt, row.errors) == (JobState.COMPLETED, 1, [])
    for row in rows[::2]:
        assert row.state is JobState.COMPLETED or row.cancel_reason is CancelReason.REQUESTED
    assert any(row.state is JobState.CANCELLED for row in rows)


def test_a_slot_whose_job_was_cancelled_serves_on(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = [insert(client, "end_at_cancel", log=log) for _ in range(2)]
    wait_until(lambda: [words[0] for words in lines(log)].count("child") == 2)

    for job_id in jobs:
        client.cancel(job_id)
    rows = [ended(client, job_id) for job_id in jobs]

    assert {row.cancel_reason for row in rows} == {CancelReason.REQUESTED}
    assert run(client, "nothing").state is JobState.COMPLETED


def test_without_a_grace_a_cancel_kills_at_once(dsn: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with acting(dsn, cancel_grace=timedelta(0)) as client:
        job_id = insert(client, "swallow", log=log)
        begun(log, "swallow")

        client.cancel(job_id)
        row = ended(client, job_id)

    assert row.cancel_reason is CancelReason.REQUESTED
    assert lines(log)[1:] == []
