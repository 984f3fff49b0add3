"""A shutdown that meets with trouble, or with work that keeps coming."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest

from support.jobs import handlers, tasks
from support.proxy import Proxy
from support.servers import Server
from support.starting import APP, StartedApp
from support.supervising import ended, make_client, supervised, wait_until
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
            assert app.wait() == os.EX_TEMPFAIL, app.log
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

            status = started.wait()

        row = direct.get(job_id)
    assert status == 0, started.log
    assert row is not None
    assert (row.state, row.attempt) == (JobState.COMPLETED, 1)


TEARDOWN = """
class Late:
    def __del__(self, sleep=time.sleep):
        sleep(1000)
late = Late()
"""
SUBSCRIBER = """
def hang(fact):
    if type(fact).__name__ == "SupervisorStopped":
        time.sleep(1000)
client.telemetry.subscribe(hang)
"""
# Not pause(): any signal ends that.
DEADLOCK = """
import atexit, ctypes
lock, mutex = ctypes.PyDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
lock(mutex)
atexit.register(lock, mutex)
"""
HANGS = {
    "thread": (0, "import threading; threading.Thread(target=time.sleep, args=(1000,)).start()"),
    "atexit": (0, "import atexit; atexit.register(time.sleep, 1000)"),
    "c_code": (1, DEADLOCK),
    "teardown": (1, TEARDOWN),
    "subscriber": (os.EX_TEMPFAIL, SUBSCRIBER),
}
"""What hangs -> the exit status, and the end of the app module; 1: Python could not end itself."""

SOON = f"""{APP.replace("processes=1", "processes=1, drain_timeout=datetime.timedelta(0)")}
import time
from synk.cli import exit_watchdog
exit_watchdog.FLUSH_S = exit_watchdog.SLACK_S = 1.5
"""


def test_q4_an_exit_that_hangs_is_ended_with_the_place_of_each_thread(
    dsn: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        apps = {
            name: stack.enter_context(StartedApp(tmp_path / name, dsn, app=f"{SOON}\n{hang}\n"))
            for name, (_, hang) in HANGS.items()
        }
        for app in apps.values():
            app.wait_for_log("started")
            app.signal(signal.SIGTERM)

        for name, app in apps.items():
            status, _ = HANGS[name]
            assert app.wait() == status, f"{name}: {app.log}"
            assert "most recent call first" in app.log
            assert ("the exit hangs" in app.log) == (status != 1)
            assert app.processes() == []


@pytest.mark.parametrize(
    ("hang", "status"),
    [("", 0), (HANGS["c_code"][1], -signal.SIGALRM)],
    ids=["logging", "and_c_code"],
)
def test_w27_a_log_that_nobody_reads_keeps_no_exit_from_its_end(
    dsn: str, tmp_path: Path, hang: str, status: int
) -> None:
    """Python's own end waits for the lock of the handler that waits for the reader."""
    log = tmp_path / "log"
    reading, writing = full_pipe()
    with (
        make_client(dsn, workers=tasks.WORKERS) as client,
        StartedApp(tmp_path, dsn, app=f"{SOON}\n{hang}", output=writing) as started,
    ):
        ended(client, client.insert("x", tasks.Task(log=str(log))))
        started.signal(signal.SIGTERM)

        assert started.wait() == status
        assert started.processes() == []
    os.close(writing)
    os.close(reading)


def full_pipe() -> tuple[int, int]:
    """Returns both ends of a pipe that takes nothing more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x")
    os.set_blocking(writing, True)
    return reading, writing


def test_q4_a_client_leaves_no_thread_in_its_host(dsn: str) -> None:
    """The watch over the exit belongs to the command alone."""
    before = set(threading.enumerate())

    with supervised(dsn) as client:
        ended(client, client.insert("x", handlers.Noop()))

    wait_until(lambda: set(threading.enumerate()) <= before, what="the threads to end")


def test_q4_a_supervisor_that_begins_anew_is_not_ended(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    app = SOON.replace("processes=1", "processes=1, lease_ttl=datetime.timedelta(seconds=6)")
    log = tmp_path / "log"
    with StartedApp(tmp_path, dsn, app=app) as started:
        started.wait_for_log("started")
        connection.execute("UPDATE synk.client SET dead_at = now()")
        wait_until(lambda: started.log.count("started") == 2, what="another one to begin")
        with make_client(dsn, workers=tasks.WORKERS) as client:
            # Longer than the watch would let the first one's exit take.
            ended(client, client.insert("x", tasks.Task(log=str(log), seconds=4.0)))
        # Its own exit, which is watched just as closely, may take long on a busy machine.
        assert "the exit hangs" not in started.log
        started.signal(signal.SIGTERM)

        assert started.wait() == 0, started.log
