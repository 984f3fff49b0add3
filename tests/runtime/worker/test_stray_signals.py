"""Signals to the processes of a supervisor: what is not meant for it disturbs no job."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import synk
from support.acting import acting, begun, fork_server_of, insert, run, workers_of
from support.news import next_news
from support.supervising import SupervisorProcess, ended, make_client, wait_until
from synk import JobState
from synk.config import EngineConfig
from synk.runtime.ipc import linux
from synk.runtime.ipc.setup import Setup
from synk.runtime.supervisor.fork_server_process import (
    ForkServerProcess,
    ModulesImported,
    preparation,
)
from synk.runtime.supervisor.selector import Selector

ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
OPTIONS = "{'workers': __import__('support.jobs.actors', fromlist=['x']).WORKERS}"


@pytest.mark.parametrize("number", ENDING)
def test_w20_a_signal_to_fork_server_and_workers_changes_nothing_for_jobs(
    client: synk.Client, tmp_path: Path, number: signal.Signals
) -> None:
    log, release = tmp_path / "log", tmp_path / "release"
    job_id = insert(client, "wait", log=log, path=release)
    pid = begun(log, "wait")

    for _ in range(3):
        for process in linux.tagged_processes(str(client.id)):
            os.kill(process, number)
    os.killpg(pid, number)
    others = [run(client, "nothing") for _ in range(4)]
    release.touch()
    row = ended(client, job_id)

    assert (row.state, row.attempt, row.pid) == (JobState.COMPLETED, 1, pid)
    assert {other.state for other in others} == {JobState.COMPLETED}


def test_w20_a_signal_to_the_whole_tree_lets_the_running_job_finish_and_claims_no_other(
    dsn: str, tmp_path: Path
) -> None:
    log, release = tmp_path / "log", tmp_path / "release"
    with make_client(dsn) as client, SupervisorProcess(dsn, OPTIONS) as supervisor:
        running = insert(client, "wait", log=log, path=release)
        begun(log, "wait")

        for pid in [*supervisor.processes(), supervisor.process.pid]:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: _is_draining(supervisor))
        other = insert(client, "nothing", log=log)
        release.touch()
        code, out, err = supervisor.wait()

        assert (code, out.strip()) == (0, "returned"), err
        row = client.get(running)
        assert row is not None
        assert (row.state, row.attempt) == (JobState.COMPLETED, 1)
        row = client.get(other)
        assert row is not None
        assert (row.state, row.attempt) == (JobState.AVAILABLE, 0)
        assert supervisor.processes() == []


def _is_draining(supervisor: SupervisorProcess) -> bool:
    assert supervisor.process.stderr is not None
    return "draining" in supervisor.process.stderr.readline()


def test_w20_what_a_job_starts_ignores_no_signal(client: synk.Client) -> None:
    assert run(client, "terminate_child").result == -signal.SIGTERM


@contextmanager
def young_workers_get_signals(fork_server: int, chance: random.Random) -> Iterator[list[int]]:
    """Sends each new worker SIGTERM within its first 20 ms."""
    seen: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for pid in set(linux.children(fork_server)) - set(seen):
                stop.wait(chance.uniform(0, 0.02))
                seen.append(pid)
                # It may have had its one job by now, and may still end before the signal.
                with suppress(ProcessLookupError):
                    if pid in linux.children(fork_server):
                        os.kill(pid, signal.SIGTERM)
            stop.wait(0.0005)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(("start_method", "jobs"), [("forkserver", 16), ("spawn", 4)])
def test_w21_a_signal_to_a_worker_that_just_began_charges_no_job(
    dsn: str, start_method: str, jobs: int
) -> None:
    with acting(dsn, max_jobs=1, start_method=start_method) as client:
        fork_server = fork_server_of(client.id)
        with young_workers_get_signals(fork_server, random.Random(21)) as seen:
            rows = [run(client, "nothing") for _ in range(jobs)]

    assert {(row.state, row.attempt, row.crashes) for row in rows} == {(JobState.COMPLETED, 1, 0)}
    # Each of them was made once: none died of it.
    assert len({row.pid for row in rows}) == jobs
    assert len({row.pid for row in rows} & set(seen)) >= jobs // 4


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.02, 0.05, 0.1])
def test_w21_a_fork_server_survives_signals_while_it_starts(delay_s: float) -> None:
    setup = Setup(
        client_id="test-young",
        host="host",
        supervisor_pid=os.getpid(),
        modules=("support.jobs.handlers",),
        payload=b"",
        queues={},
    )
    selector = Selector()
    prepare = preparation(needs_main=False)
    fork_server = ForkServerProcess(EngineConfig(processes=1), setup, prepare, selector)
    try:
        threading.Event().wait(delay_s)
        for number in ENDING:
            os.kill(fork_server.pid, number)

        assert next_news(fork_server, ModulesImported) == ModulesImported({}, [])
    finally:
        fork_server.close()


def test_w21_a_worker_killed_before_it_is_ready_charges_no_job(dsn: str) -> None:
    with acting(dsn, processes=1) as client:
        fork_server = fork_server_of(client.id)
        first = run(client, "nothing")
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: (found := workers_of(fork_server)) and found != [first.pid] and found)
        for pid in linux.children(fork_server):
            os.kill(pid, signal.SIGKILL)
        row = run(client, "nothing")

    assert (row.state, row.attempt, row.errors) == (JobState.COMPLETED, 1, [])
