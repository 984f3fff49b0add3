"""Supervisors that are killed or stopped, and what their processes do about it alone."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

import synk
from support.jobs import tasks
from support.starting import APP, StartedApp
from support.supervising import SupervisorProcess, ended, make_client, wait_until
from synk import Cause, JobState

ONCE = synk.InsertOptions(max_retries=0)
WORKERS = "'workers': __import__('support.jobs.tasks').jobs.tasks.WORKERS"
STARTS_MS = range(0, 700, 50)


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_s1_nothing_survives_the_sigkill_of_a_supervisor(
    dsn: str, tmp_path: Path, start_method: str
) -> None:
    log = tmp_path / "log"
    options = f"{{{WORKERS}, 'processes': 3, 'start_method': '{start_method}'}}"
    with make_client(dsn, workers=tasks.WORKERS) as client:
        hows = ("hold_gil", "child", "escaped")
        client.insert_many([(how, tasks.Task(how, log=str(log), text=how)) for how in hows])
        with SupervisorProcess(dsn, options) as supervisor:
            wait_until(lambda: sorted(tasks.notes(log, "begun")) == sorted(hows))
            # The fork server, three workers, what two of the jobs have started, perhaps a spare.
            wait_until(lambda: len(supervisor.processes()) >= 7, what="the jobs' processes")

            supervisor.signal(signal.SIGKILL)

            wait_until(lambda: supervisor.processes() == [], seconds=3.0)


def test_s1_nothing_survives_a_sigkill_at_any_moment_of_the_start(dsn: str, tmp_path: Path) -> None:
    with make_client(dsn, workers=tasks.WORKERS) as client:
        client.insert_many([("x", tasks.Task("escaped"))] * 30)
    for first in range(0, len(STARTS_MS), 2):
        moments = STARTS_MS[first : first + 2]
        apps = [StartedApp(tmp_path / str(moment), dsn) for moment in moments]
        for moment, app in zip(moments, apps, strict=True):
            threading.Timer(moment / 1000, app.signal, [signal.SIGKILL]).start()
        for app in apps:
            with app:
                assert app.wait() == -signal.SIGKILL
                wait_until(lambda app=app: app.processes() == [], seconds=3.0)


def test_s1_a_fork_server_that_hangs_in_an_import_dies_with_its_supervisor(
    dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "hanging.py").write_text("import ctypes; ctypes.PyDLL(None).pause()")
    app = APP.replace("processes=1", "processes=1, preload=['hanging']")
    with StartedApp(tmp_path, dsn, app=app) as started:
        wait_until(lambda: len(started.processes()) == 2, what="the fork server")

        started.signal(signal.SIGKILL)

        wait_until(lambda: started.processes() == [], seconds=3.0)


def test_s2_a_worker_of_a_stopped_supervisor_ends_a_job_that_is_far_over_its_time(
    dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with make_client(dsn, workers=tasks.WORKERS) as client:
        ids = [
            client.insert(how, tasks.Task(how, log=str(log), text=how, timeout_s=1.0), ONCE)
            for how in ("hold_gil", "child")
        ]
        with SupervisorProcess(dsn, f"{{{WORKERS}}}") as supervisor:
            wait_until(lambda: len(tasks.notes(log, "begun")) == 2)
            # The fork server, two workers, what one of the jobs has started, perhaps a spare.
            wait_until(lambda: len(supervisor.processes()) >= 4, what="the job's process")
            supervisor.signal(signal.SIGSTOP)
            wait_until(lambda: len(supervisor.processes()) <= 2, what="the workers to end")
            supervisor.signal(signal.SIGCONT)
            rows = [ended(client, job_id) for job_id in ids]
            supervisor.signal(signal.SIGTERM)
            code, _, err = supervisor.wait()

    assert code == 0, err
    for row in rows:
        (error,) = row.errors
        assert (row.state, error.cause, error.signal) == (
            JobState.CANCELLED,
            Cause.TIMEOUT,
            "SIGALRM",
        )
        assert "the timeout of its worker is 1 s" in error.error
