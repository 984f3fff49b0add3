"""What a failed attempt held is let go of as it ends: no other job waits or pays for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import synk
from support.acting import acting, error_of, run
from support.jobs.holding import WAYS
from synk import JobState


@pytest.fixture(scope="module")
def client(shared_dsn: str) -> Iterator[synk.Client]:
    """With one worker, so that one job after the other runs in the same process."""
    with acting(shared_dsn, processes=1) as client:
        yield client


@pytest.mark.parametrize("way", WAYS)
def test_what_a_failed_attempt_held_is_gone_when_the_next_job_begins(
    client: synk.Client, way: str
) -> None:
    failed = run(client, "fail_holding", text=way)
    after = run(client, "look_at_held")

    assert error_of(failed).trace
    assert after.pid == failed.pid
    assert after.result == []


def test_what_a_completed_job_held_is_gone_too(client: synk.Client) -> None:
    completed = run(client, "succeed_holding", text="success")
    after = run(client, "look_at_held")

    assert after.pid == completed.pid
    assert after.result == []


def test_what_a_failed_job_wrote_into_a_file_is_in_it(client: synk.Client, tmp_path: Path) -> None:
    run(client, "fail_with_file", path=tmp_path / "file")

    # At once: the row says so only after this is true.
    assert (tmp_path / "file").read_text() == "written"


def test_a_lock_that_a_failed_job_held_is_free(client: synk.Client) -> None:
    failed = run(client, "fail_with_lock")
    after = run(client, "look_at_lock")

    assert (after.pid, after.result) == (failed.pid, False)


@pytest.mark.parametrize("text", ["", "small", "circle"])
def test_the_memory_of_a_failed_job_is_not_the_next_ones(client: synk.Client, text: str) -> None:
    before = run(client, "tell_memory").result
    failed = run(client, "fail_with_memory", number=100, text=text)
    after = run(client, "tell_memory")

    assert failed.peak_rss_bytes is not None
    assert isinstance(before, int)
    assert isinstance(after.result, int)
    assert failed.peak_rss_bytes > before + (60 << 20)
    assert after.pid == failed.pid
    assert after.result < before + (30 << 20)
    assert run(client, "run_for", number=1000).state is JobState.COMPLETED
