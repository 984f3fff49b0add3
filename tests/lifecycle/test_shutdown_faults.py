"""A shutdown that meets with trouble, or with work that keeps coming."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

from lifecycle import tasks
from proxy import Proxy
from servers import Server
from starting import StartedApp
from supervising import make_client, wait_until
from synk import JobState


def test_q3_a_shutdown_without_a_database_ends_and_says_what_was_lost(
    server: Server, tmp_path: Path
) -> None:
    """One database refuses connections, the other is there and does not answer: side by side."""
    apps: list[StartedApp] = []
    with ExitStack() as stack:
        for name in ("down", "frozen"):
            dsn = stack.enter_context(server.database())
            proxy = stack.enter_context(Proxy(dsn))
            log = tmp_path / f"{name}.log"
            with make_client(dsn, workers=tasks.WORKERS) as direct:
                direct.insert("x", tasks.Task(log=str(log), seconds=1.0))
            apps.append(stack.enter_context(StartedApp(tmp_path / name, proxy.dsn)))
            wait_until(log.exists, what="the job to begin")
            if name == "down":
                proxy.go_down()
            else:
                proxy.trap("ack", at="question")
            apps[-1].signal(signal.SIGTERM)

        for app in apps:
            assert app.wait(25) == os.EX_TEMPFAIL, app.log
            assert "ERROR 1 outcomes could not be stored; those jobs run again" in app.log
            assert app.processes() == []


def test_q3_a_database_that_comes_back_in_time_gets_the_last_outcomes(
    dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with Proxy(dsn) as proxy, make_client(dsn, workers=tasks.WORKERS) as direct:
        job_id = direct.insert("x", tasks.Task(log=str(log), seconds=0.5))
        with StartedApp(tmp_path, proxy.dsn) as started:
            wait_until(log.exists, what="the job to begin")
            proxy.go_down()
            started.signal(signal.SIGTERM)
            wait_until(lambda: tasks.notes(log, "done"), what="the job to end")
            proxy.come_back()

            status = started.wait(25)

        row = direct.get(job_id)
    assert status == 0, started.log
    assert row is not None
    assert (row.state, row.attempt) == (JobState.COMPLETED, 1)
