"""What an attempt leaves in the row of what it took, and where."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import synk
from support.acting import acting, begun, error_of, run
from synk import Cause, JobState

MIB = 1 << 20


@pytest.fixture(scope="module")
def client(shared_dsn: str) -> Iterator[synk.Client]:
    """With one worker, so that one job after the other is measured in the same process."""
    with acting(shared_dsn, processes=1) as client:
        yield client


def seconds(time: timedelta | None) -> float:
    assert time is not None
    return time.total_seconds()


def test_a_success_tells_its_time_and_process(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"

    row = run(client, "run_for", number=300_000, log=log)

    assert row.state is JobState.COMPLETED
    assert 0.3 <= seconds(row.duration) < 10
    # Another process may have had the CPU for a part of it.
    assert 0.05 < seconds(row.cpu_time) <= seconds(row.duration) + 0.1
    assert row.pid == begun(log, "run_for")
    assert row.peak_rss_bytes is not None
    assert 5 * MIB < row.peak_rss_bytes < 200 * MIB


def test_time_in_the_kernel_is_told_apart(client: synk.Client) -> None:
    user = run(client, "run_for", number=200_000)
    kernel = run(client, "work_in_kernel", number=200)

    assert seconds(user.system_time) < seconds(user.cpu_time) / 2
    assert seconds(kernel.system_time) > seconds(kernel.cpu_time) / 2
    assert seconds(kernel.cpu_time) > 0.02


def test_what_its_children_took_counts_to_the_job(client: synk.Client) -> None:
    with_child = run(client, "work_in_child", number=300)
    after = run(client, "run_for", number=10_000)

    assert seconds(with_child.cpu_time) >= 0.3
    assert seconds(after.cpu_time) < 0.2


def test_a_wait_costs_time_and_no_cpu(client: synk.Client) -> None:
    error = error_of(run(client, "nap", timeout_s=0.7))

    assert error.duration_s is not None
    assert error.duration_s >= 0.7
    assert error.cpu_s is not None
    assert error.cpu_s < 0.5


def test_the_peak_of_memory_is_that_of_the_job_and_not_of_one_before(client: synk.Client) -> None:
    large = run(client, "eat_memory", number=120)
    small = run(client, "run_for", number=10_000)

    assert large.pid == small.pid
    assert large.peak_rss_bytes is not None
    assert large.peak_rss_bytes > 120 * MIB
    assert small.peak_rss_bytes is not None
    assert small.peak_rss_bytes < 100 * MIB


def test_a_killed_attempt_tells_what_it_took(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    # Time of jobs before it in the same process is not its own.
    before = run(client, "run_for", number=500_000)

    row = run(client, "spin", timeout_s=0.5, log=log)

    error = error_of(row)
    assert before.pid == error.pid == row.pid == begun(log, "spin")
    assert error.cause is Cause.TIMEOUT
    assert error.cpu_s is not None
    assert error.cpu_s > 0.05
    assert error.duration_s is not None
    assert error.cpu_s <= error.duration_s + 0.2
    assert error.peak_rss_bytes is not None
    assert error.peak_rss_bytes > 5 * MIB
    assert error.host == socket.gethostname()
    assert error.supervisor == str(client.id)
    assert error.system_s is not None


def test_a_crashed_attempt_tells_what_it_took(client: synk.Client) -> None:
    error = error_of(run(client, "os_exit", number=9))

    assert (error.exit_code, error.signal, error.cause) == (9, None, Cause.EXIT)
    assert error.cpu_s is not None
    assert error.peak_rss_bytes is not None
    assert error.host == socket.gethostname()


def test_a_failed_attempt_tells_what_it_took(client: synk.Client) -> None:
    error = error_of(run(client, "sys_exit"))

    assert (error.exit_code, error.signal) == (None, None)
    assert error.duration_s is not None
    assert error.duration_s < 10
    assert error.host == socket.gethostname()
    assert error.pid is not None
