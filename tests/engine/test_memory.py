"""Memory of jobs: limits, which count what a job starts; workers that keep it; the kernel."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import synk
from engine.acting import (
    acting,
    begun,
    both_workers_of,
    error_of,
    insert,
    is_gone,
    noted,
    nursery_of,
    run,
)
from supervising import ended, wait_until
from synk import Cause, JobState
from synk.runtime import crew, gauge
from synk.runtime.gauge import OomWatch

MIB = 1 << 20


def test_a_job_above_its_workers_limit_is_killed_for_memory(
    client: synk.Client, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    row = run(client, "eat_memory", number=150, log=log, path=tmp_path / "x", max_rss=90 * MIB)

    error = error_of(row)
    assert error.cause is Cause.MEMORY
    assert "max_rss of its worker is 94 MB" in error.error
    assert "in eat_memory" in error.trace
    assert error.peak_rss_bytes is not None
    assert error.peak_rss_bytes > 90 * MIB
    assert is_gone(begun(log, "eat_memory"))


def test_a_limit_counts_what_the_jobs_children_use(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"

    row = run(client, "eat_memory_in_child", number=150, log=log, max_rss=90 * MIB)

    assert error_of(row).cause is Cause.MEMORY
    assert is_gone(int(noted(log, "child")[1]))


def test_a_queue_can_name_the_limit(dsn: str, tmp_path: Path) -> None:
    queues = {"small": synk.QueueConfig(max_rss=90 * MIB), "large": synk.QueueConfig()}
    log, release = tmp_path / "log", tmp_path / "release"
    with acting(dsn, queues=queues) as client:
        large = insert(client, "eat_memory", queue="large", number=150, log=log, path=release)
        begun(log, "eat_memory")
        row = run(client, "eat_memory_in_child", queue="small", number=150, log=tmp_path / "s")
        release.touch()

        assert ended(client, large).state is JobState.COMPLETED

    error = error_of(row)
    assert error.cause is Cause.MEMORY
    assert "max_rss of queue small is 94 MB" in error.error


def test_a_limit_counts_memory_that_processes_share_once(
    client: synk.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four processes with the same 100 MB are above 250 MB only if each of them is counted."""
    log, release = tmp_path / "log", tmp_path / "release"
    job_id = insert(
        client,
        "share_memory_with_children",
        number=100,
        log=log,
        path=release,
        max_rss=250 * MIB,
    )
    noted(log, "shared")
    measured: list[int] = []
    measure = gauge._tree_bytes

    def noting(*args: Any) -> int:
        measured.append(measure(*args))
        return measured[-1]

    monkeypatch.setattr(gauge, "_tree_bytes", noting)
    wait_until(lambda: len(measured) > 1, what="looks at its memory")
    release.touch()

    assert 100 * MIB < measured[-1] < 250 * MIB
    assert ended(client, job_id).state is JobState.COMPLETED


def test_w23_an_address_space_limit_is_a_memory_error_of_the_job(dsn: str) -> None:
    with acting(dsn, rlimits={"AS": 1024 * MIB}) as client:
        row = run(client, "eat_memory", number=2000)

    error = error_of(row)
    assert (error.cause, row.crashes) == (Cause.EXCEPTION, 0)
    assert error.error.startswith("MemoryError")
    assert "in eat_memory" in error.trace


@pytest.mark.parametrize("counted", [True, False])
def test_w23_a_kill_by_the_kernel_is_told_by_what_the_control_group_counts(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: bool
) -> None:
    """No real group can be filled here: its counter is a file of the test's."""
    events, log = tmp_path / "memory.events", tmp_path / "log"
    events.write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n")
    monkeypatch.setattr(crew, "OomWatch", functools.partial(OomWatch, events))
    with acting(dsn) as client:
        job_id = insert(client, "wait", log=log, path=tmp_path / "never")
        pid = begun(log, "wait")
        if counted:
            events.write_text("low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\n")
        os.kill(pid, signal.SIGKILL)
        row = ended(client, job_id)

    error = error_of(row)
    assert error.signal == "SIGKILL"
    if counted:
        assert error.cause is Cause.MEMORY
        assert "most likely by the kernel for want of memory" in error.error
    else:
        assert error.cause is Cause.SIGNAL
        assert "which synk did not send" in error.error


def test_w23_the_kernel_takes_a_worker_before_its_supervisor(client: synk.Client) -> None:
    def score(pid: int | str) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    run(client, "nothing")
    workers = both_workers_of(client.id)

    assert score(nursery_of(client.id)) == score("self")
    wait_until(lambda: all(score(pid) >= min(1000, score("self") + 300) for pid in workers))


def test_a_worker_that_keeps_too_much_memory_is_replaced_between_two_jobs(dsn: str) -> None:
    with acting(dsn, processes=1, max_worker_rss=90 * MIB) as client:
        small = [run(client, "run_for", number=100_000) for _ in range(3)]
        keeping = run(client, "keep_memory", number=100)

        def later() -> synk.JobRow | None:
            row = run(client, "run_for", number=100_000)
            assert (row.state, row.attempt) == (JobState.COMPLETED, 1)
            return row if row.pid != keeping.pid else None

        wait_until(later, what="another worker")

    assert keeping.state is JobState.COMPLETED
    assert {row.pid for row in small} == {keeping.pid}


def test_a_worker_is_replaced_after_so_many_jobs(dsn: str) -> None:
    with acting(dsn, processes=1, max_jobs=3) as client:
        pids = [run(client, "nothing").pid for _ in range(9)]

    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]
