"""What a job notes while it runs: kept, handed on, and never torn."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

import synk
from support.acting import insert, noted, run
from support.supervising import ended, wait_until
from synk import CancelReason, JobState


def second_attempt(client: synk.Client, connection: psycopg.Connection, job_id: int) -> synk.JobRow:
    """Waits for the first attempt to fail, and has the next begin at once; returns its end."""
    wait_until(lambda: (row := client.get(job_id)) and row.state is JobState.SCHEDULED)
    connection.execute("UPDATE synk.job SET scheduled_at = now() WHERE id = %s", [job_id])
    return ended(client, job_id)


@pytest.mark.parametrize("text", ["", "killed", "raises"])
def test_the_last_progress_is_kept_however_the_job_ends(client: synk.Client, text: str) -> None:
    row = run(client, "note_progress", number=250, text=text)

    assert row.progress is not None
    assert (row.progress.done, row.progress.total) == (250, 250)
    assert row.progress.note == "item 250"
    assert row.progress.share == 1.0
    assert row.state is (JobState.CANCELLED if text else JobState.COMPLETED)


def test_a_job_killed_by_its_timeout_keeps_its_progress(
    client: synk.Client, tmp_path: Path
) -> None:
    row = run(
        client, "note_progress", number=3, text="waits", path=tmp_path / "never", timeout_s=0.4
    )

    assert row.state is JobState.CANCELLED
    assert row.progress is not None
    assert row.progress.done == 3


def test_progress_of_one_job_is_not_that_of_the_next(client: synk.Client) -> None:
    for _ in range(2):
        run(client, "note_progress", number=5)
    rows = [run(client, "nothing") for _ in range(4)]

    assert {row.progress for row in rows} == {None}


@pytest.mark.parametrize("text", ["killed", "raises"])
def test_the_next_attempt_finds_the_last_checkpoint(
    client: synk.Client, shared_connection: psycopg.Connection, text: str
) -> None:
    job_id = insert(client, "note_checkpoint", number=99, text=text, retries=1)

    row = second_attempt(client, shared_connection, job_id)

    assert (row.state, row.attempt) == (JobState.COMPLETED, 2)
    assert row.result == {"page": 99, "seen": ["a", None, 1.5]}
    assert len(row.errors) == 1
    # A job that is done needs none any more.
    assert row.checkpoint is None


def test_the_attempt_after_a_timeout_finds_the_last_checkpoint(
    client: synk.Client, shared_connection: psycopg.Connection, tmp_path: Path
) -> None:
    job_id = insert(
        client,
        "note_checkpoint",
        number=7,
        text="waits",
        path=tmp_path / "never",
        timeout_s=0.4,
        retries=1,
    )

    row = second_attempt(client, shared_connection, job_id)

    assert row.result == {"page": 7, "seen": ["a", None, 1.5]}


def test_a_cancelled_job_keeps_its_checkpoint(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    job_id = insert(
        client, "note_checkpoint", number=2, text="waits", log=log, path=tmp_path / "never"
    )
    noted(log, "noted")

    client.cancel(job_id)
    row = ended(client, job_id)

    assert row.cancel_reason is CancelReason.REQUESTED
    assert row.checkpoint == {"page": 2, "seen": ["a", None, 1.5]}


def test_what_cannot_be_noted_fails_no_job_and_is_said_once_in_its_output(
    client: synk.Client,
) -> None:
    row = run(client, "refuse_notes")

    assert row.progress == synk.row.Progress(3, 4, "kept")
    assert row.checkpoint == "kept"
    (error,) = row.errors
    assert error.error.startswith("RuntimeError")
    for said in ("finite number", "is not JSON", "at most 65536", "NUL character"):
        assert error.output.count(said) == 1
