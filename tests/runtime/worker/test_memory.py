"""Memory of jobs: limits, which count what a job starts; workers that keep it; the kernel."""

from __future__ import annotations

import functools
import os
import signal
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import pytest

import synk
from support.acting import (
    acting,
    begun,
    both_workers_of,
    error_of,
    fork_server_of,
    insert,
    is_gone,
    noted,
    run,
)
from support.supervising import ended, wait_until
from synk import Cause, JobState
from synk.runtime.supervisor import memory_sampler, worker_set
from synk.runtime.supervisor.memory_sampler import OomWatch

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


Looks = list[tuple[int, int]]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """What each look at a job's memory found: of its worker alone, and of all."""
    found: Looks = []
    look = memory_sampler.MemorySampler._sample

    def noting(*args: Any) -> tuple[int, int] | None:
        sample = look(*args)
        if sample is not None:
            found.append(sample)
        return sample

    monkeypatch.setattr(memory_sampler.MemorySampler, "_sample", noting)
    return found


def looked_at(client: synk.Client, do: str, tmp_path: Path, looks: Looks, **fields: Any):
    """Runs a job that stays until its memory was looked at; returns its row, and what was found."""
    log = tmp_path / do
    # Looks are rare on a busy machine.
    job_id = insert(client, do, log=log, max_rss=150 * MIB, timeout_s=100, **fields)
    noted(log, "touched")
    looks.clear()

    def is_seen() -> bool:
        row = client.get(job_id)
        return len(looks) > 1 or (row is not None and row.state.is_final)

    wait_until(is_seen, what="looks at its memory", seconds=100)
    seen = looks[-1]
    log.with_name(f"{log.name}.seen").touch()
    return ended(client, job_id), seen


def test_a_limit_counts_memory_that_processes_share_once(
    client: synk.Client, tmp_path: Path, looks: Looks
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
    looks.clear()
    wait_until(lambda: len(looks) > 1, what="looks at its memory")
    release.touch()

    assert 100 * MIB < looks[-1][1] < 250 * MIB
    assert ended(client, job_id).state is JobState.COMPLETED


@pytest.mark.parametrize("do", ["look_at_mapped_file", "write_to_mapped_file"])
@pytest.mark.parametrize("place", ["on disk", "/dev/shm"])  # noqa: S108 - memory
def test_w23_a_file_that_a_job_maps_is_not_its_memory(
    client: synk.Client, tmp_path: Path, looks: Looks, do: str, place: str
) -> None:
    """As numpy.memmap and Arrow do: the kernel can drop it, or it was there before the job."""
    folder = tmp_path if place == "on disk" else Path(place)
    data = folder / f"synk-test-{os.getpid()}"
    try:
        with data.open("wb") as file:
            file.truncate(300 * MIB)
        row, _ = looked_at(client, do, tmp_path, looks, path=data)
    finally:
        data.unlink()

    assert row.state is JobState.COMPLETED, row.errors
    assert row.result == 300 * MIB


def test_w23_shared_memory_of_others_is_not_a_jobs_memory(
    client: synk.Client, tmp_path: Path, looks: Looks
) -> None:
    memory = shared_memory.SharedMemory(create=True, size=300 * MIB)
    try:
        assert memory.buf is not None
        memory.buf[:] = bytes(300 * MIB)
        row, _ = looked_at(
            client, "look_at_others_shared_memory", tmp_path, looks, text=memory.name
        )
    finally:
        memory.close()
        memory.unlink()

    assert row.state is JobState.COMPLETED, row.errors


def test_w23_what_a_module_loaded_before_the_fork_is_not_a_jobs_memory(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: Looks
) -> None:
    monkeypatch.setenv("SYNK_TEST_MODEL_MB", "300")
    with acting(dsn) as client:
        alone, seen_alone = looked_at(client, "look_at_model", tmp_path, looks)
        among, seen_among = looked_at(client, "look_at_model_in_children", tmp_path, looks)

    assert alone.state is JobState.COMPLETED, alone.errors
    assert among.state is JobState.COMPLETED, among.errors
    assert alone.result == 300 * MIB
    assert seen_alone[1] < 60 * MIB
    assert seen_among[1] < 120 * MIB


@pytest.mark.parametrize("do", ["fill_nameless_memory", "fill_raw_array", "hide_memory_by_a_fork"])
def test_w23_memory_that_a_job_took_counts_however_it_took_it(
    client: synk.Client, tmp_path: Path, do: str
) -> None:
    row = run(client, do, number=150, path=tmp_path / "never", max_rss=90 * MIB)

    error = error_of(row)
    assert error.cause is Cause.MEMORY
    assert "max_rss of its worker is 94 MB" in error.error


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
    monkeypatch.setattr(worker_set, "OomWatch", functools.partial(OomWatch, events))
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

    assert score(fork_server_of(client.id)) == score("self")
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
