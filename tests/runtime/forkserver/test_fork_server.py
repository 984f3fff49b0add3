"""The process that makes the workers: killed, stopped, and never mistaken about a pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import synk
from support import needs
from support.acting import (
    acting,
    begun,
    fork_server_of,
    insert,
    is_gone,
    lines,
    noted,
    run,
    workers_of,
)
from support.failing_starts import module_of, never_tried, problem_at_start
from support.jobs.actors import WORKERS
from support.supervising import ended, make_client, program_env, wait_until
from synk import JobState
from synk.runtime.supervisor import worker_set


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_w25_jobs_run_again_uncharged_after_a_kill_of_the_fork_server_and_never_twice_at_a_time(
    dsn: str, tmp_path: Path, start_method: str
) -> None:
    logs, release = [tmp_path / "one", tmp_path / "two"], tmp_path / "release"
    with acting(dsn, start_method=start_method) as client:
        jobs = [insert(client, "tick", log=log, path=release) for log in logs]
        pids = [begun(log, "tick") for log in logs]
        fork_server = fork_server_of(client.id)

        os.kill(fork_server, signal.SIGKILL)
        wait_until(lambda: all(_ticks(log, attempt=2) for log in logs))
        assert all(is_gone(pid) for pid in [fork_server, *pids])
        release.touch()
        rows = [ended(client, job_id) for job_id in jobs]

    for row, log in zip(rows, logs, strict=True):
        assert (row.state, row.attempt, row.uncounted) == (JobState.COMPLETED, 2, 1)
        assert (row.errors, row.crashes) == ([], 0)
        assert _ticks(log, attempt=1)[-1] < _ticks(log, attempt=2)[0]
        # It costs a moment, not a lease.
        assert _ticks(log, attempt=2)[0] - _ticks(log, attempt=1)[-1] < 15e9


def _ticks(log: Path, *, attempt: int) -> list[int]:
    """When an attempt ran, on the clock of the machine, in nanoseconds."""
    return [int(words[2]) for words in lines(log) if words[:2] == ["at", str(attempt)]]


def test_w25_children_of_jobs_end_with_a_killed_fork_server_too(dsn: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with acting(dsn, processes=1) as client:
        insert(client, "child_plain", log=log)
        child = int(noted(log, "child")[1])

        os.kill(fork_server_of(client.id), signal.SIGKILL)

        wait_until(lambda: is_gone(child), what="the child to end")


def test_w25_a_fork_server_that_dies_while_nothing_runs_is_replaced(dsn: str) -> None:
    with acting(dsn) as client:
        run(client, "nothing")
        first = fork_server_of(client.id)

        os.kill(first, signal.SIGKILL)
        wait_until(lambda: is_gone(first))
        row = run(client, "nothing")

    assert (row.state, row.attempt, row.errors) == (JobState.COMPLETED, 1, [])


def test_w25_a_fork_server_that_stands_still_is_replaced_once_a_death_is_not_told(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_set, "REAP_S", 0.5)
    log, release = tmp_path / "log", tmp_path / "release"
    with acting(dsn) as client:
        job_id = insert(client, "tick", log=log, path=release)
        pid = begun(log, "tick")
        fork_server = fork_server_of(client.id)
        os.kill(fork_server, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)

        wait_until(lambda: _ticks(log, attempt=2), what="the next attempt")
        release.touch()
        row = ended(client, job_id)

        assert is_gone(fork_server)
    assert (row.state, row.attempt, row.uncounted) == (JobState.COMPLETED, 2, 1)


def test_w25_a_fork_server_that_dies_while_it_imports_is_reported(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module_of(tmp_path, "ends_it_all", "import os\nos._exit(3)", monkeypatch)
    with make_client(dsn, workers=WORKERS, preload=[name]) as client:
        job_id = insert(client, "nothing")

        problem = problem_at_start(client)

        assert isinstance(problem, synk.WorkerStartError)
        assert "while it imported the handlers' modules" in str(problem)
        assert never_tried(client, job_id)


REUSE = """
import os, signal, subprocess, sys
from multiprocessing import reduction
from support.jobs import handlers
from support.pool_world import job
from support.news import next_news
from support.supervising import program_env, wait_until
from synk.config import EngineConfig
from synk.core.messages import Request
from synk.runtime.ipc import linux
from synk.runtime.ipc.setup import QueueSetup, Setup
from synk.runtime.supervisor.fork_server_process import (
    ForkServerProcess, ModulesImported, WorkerEnded, WorkerForked, preparation,
)
from synk.runtime.supervisor.output_lines import StderrWriter
from synk.runtime.supervisor.selector import Selector
from synk.runtime.supervisor.worker_process import WorkerProcess

setup = Setup(
    client_id="test-reuse", host="host", supervisor_pid=os.getpid(),
    modules=("support.jobs.handlers",),
    payload=bytes(reduction.ForkingPickler.dumps((handlers.WORKERS, None))),
    queues={"default": QueueSetup(timeout_s=60)},
)
selector = Selector()
prepare = preparation(needs_main=False)
fork_server = ForkServerProcess(EngineConfig(processes=1), setup, prepare, selector)
next_news(fork_server, ModulesImported)
worker = WorkerProcess(setup, selector, StderrWriter())
fork_server.request(0, worker.descriptors)
started = next_news(fork_server, WorkerForked)
worker.forked(started.pid, started.pidfd)
wait_until(lambda: (worker.channel.report(), worker.channel.is_ready)[1])
hanging = job(1, kind="write", args='{"path": "/dev/null", "sleep_s": 1000}')
worker.channel.send(1, [hanging])
wait_until(lambda: worker.channel.report().running == 1)

# It dies, and is reaped, while its supervisor looks elsewhere.
os.kill(worker.pid, signal.SIGKILL)
news = next_news(fork_server, WorkerEnded)
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(str(worker.pid - 1))
victim = subprocess.Popen(["sleep", "1000"], start_new_session=True)
assert victim.pid == worker.pid, (victim.pid, worker.pid)

# The timeout path, and all that may follow.
worker.ask(1, Request.CANCEL)
worker.ask_stack()
worker.kill_with_stack()
worker.kill()
linux.kill_tagged("test-reuse")
worker.channel.recall()
exit_ = worker.exit_of(news)
worker.close()
fork_server.close()
assert exit_.signal == "SIGKILL", exit_
assert victim.poll() is None
os.kill(worker.pid, signal.SIGTERM)  # what naive code would have done
assert victim.wait() == -signal.SIGTERM
print("the victim lived")
"""


def test_w16_a_kill_never_hits_a_process_that_got_the_same_pid() -> None:
    done = subprocess.run(
        [*needs.pid_namespace(), sys.executable, "-c", REUSE],
        env=program_env(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "the victim lived\n"), done.stderr


def test_w16_a_dead_worker_keeps_its_pid_until_all_its_kin_are_killed(
    dsn: str, tmp_path: Path
) -> None:
    """Who kills by the number of its group, as the fork server does, then hits nobody else."""
    log = tmp_path / "log"
    with acting(dsn, processes=1) as client:
        fork_server = fork_server_of(client.id)
        job_id = insert(client, "child_plain", log=log)
        pid = begun(log, "child_plain")
        child = int(noted(log, "child")[1])
        os.kill(fork_server, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(pid))

        assert Path(f"/proc/{pid}").exists()
        assert not is_gone(child)
        os.kill(fork_server, signal.SIGCONT)
        ended(client, job_id)

        assert not Path(f"/proc/{pid}").exists()
        assert is_gone(child)
        wait_until(lambda: workers_of(fork_server))
