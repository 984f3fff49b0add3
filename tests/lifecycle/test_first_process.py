"""`synk start` as the first process of a PID namespace, as in a container."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from support import needs
from support.jobs import tasks
from support.starting import APP, StartedApp
from support.supervising import ended, make_client, wait_until
from synk import JobState
from synk.runtime.ipc import linux

ORPHANS = """
import os
if os.getppid() == 1:
    for _ in range(50):
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "0.2"])
            os._exit(0)
        os.waitpid(child, 0)
    print("made 50 orphans", flush=True)
"""
"""Leaves 50 processes whose parent has ended; only where the parent is the first process."""


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    return needs.pid_namespace("--kill-child")


def first_process(started: StartedApp) -> int:
    """Returns the pid, as seen from here, of the first process in the namespace."""
    return wait_until(lambda: linux.children(started.process.pid), what="the namespace")[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_s11_a_signal_to_the_first_process_of_a_container_drains(
    dsn: str, tmp_path: Path, number: signal.Signals, namespace: list[str]
) -> None:
    log = tmp_path / "log"
    with make_client(dsn, workers=tasks.WORKERS) as client:
        job_id = client.insert("x", tasks.Task(log=str(log), seconds=1.0))
        with StartedApp(tmp_path, dsn, prefix=namespace) as started:
            wait_until(log.exists, what="the job to begin")

            os.kill(first_process(started), number)

            assert started.wait() == 0, started.log
            assert started.processes() == []
        row = client.get(job_id)
    assert row is not None
    assert (row.state, row.attempt) == (JobState.COMPLETED, 1)
    assert started.log.count("draining") == 1


def test_s11_a_signal_while_a_container_starts_is_not_lost(
    dsn: str, tmp_path: Path, namespace: list[str]
) -> None:
    imported = tmp_path / "imported"
    app = f"import pathlib, time\npathlib.Path({str(imported)!r}).touch()\ntime.sleep(1000)\n"
    with StartedApp(tmp_path, dsn, app=app, prefix=namespace) as started:
        wait_until(imported.exists, what="the import to begin")

        os.kill(first_process(started), signal.SIGTERM)

        assert started.wait() == 128 + signal.SIGTERM, started.log


def test_s11_orphans_leave_no_zombie_in_a_container(
    dsn: str, tmp_path: Path, namespace: list[str]
) -> None:
    with StartedApp(tmp_path, dsn, app=f"{ORPHANS}\n{APP}", prefix=namespace) as started:
        started.wait_for_log("started")
        assert "made 50 orphans" in started.log
        first = first_process(started)
        supervisor = linux.children(first)[0]
        with make_client(dsn, workers=tasks.WORKERS) as client:
            ended(client, client.insert("x", tasks.Task()))

        wait_until(lambda: linux.children(first) == [supervisor], what="the zombies to go")

        os.kill(first, signal.SIGTERM)
        assert started.wait() == 0, started.log


def test_s11_a_container_ends_as_its_supervisor_did(
    dsn: str, tmp_path: Path, namespace: list[str]
) -> None:
    with StartedApp(tmp_path, dsn, prefix=namespace) as started:
        started.wait_for_log("started")
        supervisor = linux.children(first_process(started))[0]

        os.kill(supervisor, signal.SIGKILL)

        assert started.wait() == 128 + signal.SIGKILL
        assert started.processes() == []
