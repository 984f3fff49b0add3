"""Signals to a supervisor at any moment of its life, once and repeatedly."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import psycopg
import pytest

from support.jobs import tasks
from support.starting import APP, StartedApp
from support.supervising import ended, make_client, wait_until
from synk import JobState

TERM, INT = signal.SIGTERM, signal.SIGINT

PYTHONS = {-TERM, -INT, 130, 1}
"""Exit statuses of Python that was ended; 1: while it imported its first modules."""

AT_ONCE = 2
"""Supervisors that start side by side, one a CPU."""

PATIENT = APP.replace("processes=1", "processes=1, drain_timeout=datetime.timedelta(seconds=600)")


def counts(connection: psycopg.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT state, count(*) FROM synk.job GROUP BY 1").fetchall())


@pytest.mark.parametrize(
    ("number", "moments_ms"),
    [(TERM, range(0, 525, 25)), (TERM, range(550, 900, 50)), (INT, range(0, 900, 75))],
)
def test_s12_a_signal_at_any_moment_after_exec_leaves_nothing_behind(
    dsn: str,
    connection: psycopg.Connection,
    tmp_path: Path,
    number: signal.Signals,
    moments_ms: range,
) -> None:
    client = make_client(dsn, workers=tasks.WORKERS)
    client.insert_many([("x", tasks.Task(seconds=0.02))] * 500)
    for first in range(0, len(moments_ms), AT_ONCE):
        moments = moments_ms[first : first + AT_ONCE]
        apps = [StartedApp(tmp_path / str(moment), dsn) for moment in moments]
        for moment, app in zip(moments, apps, strict=True):
            threading.Timer(moment / 1000, app.signal, [number]).start()
        for app in apps:
            with app:
                status = app.wait()
                # Before it can claim, Python's own answers to the signals are right.
                assert status == 0 or ("started" not in app.log and status in PYTHONS), app.log
                assert app.processes() == []

    assert set(counts(connection)) <= {JobState.AVAILABLE, JobState.COMPLETED}
    client.close()


def test_s12_a_signal_right_after_the_start_is_an_orderly_stop(dsn: str, tmp_path: Path) -> None:
    with StartedApp(tmp_path, dsn) as started:
        started.wait_for_log("started")

        started.signal(TERM)

        assert started.wait() == 0, started.log
    assert started.log.rstrip().endswith("INFO stopped")


@pytest.mark.parametrize("numbers", [(TERM, TERM, TERM), (INT, TERM, INT)])
def test_s12_a_second_signal_leaves_little_time_and_a_third_none(
    dsn: str, tmp_path: Path, numbers: tuple[signal.Signals, ...]
) -> None:
    client = make_client(dsn, workers=tasks.WORKERS)
    log = tmp_path / "log"
    job_id = client.insert("x", tasks.Task(log=str(log), seconds=1000))
    with StartedApp(tmp_path, dsn, app=PATIENT) as started:
        wait_until(log.exists, what="the job to begin")
        for number, seconds in zip(numbers, (600, 3, 0), strict=True):
            started.signal(number)
            started.wait_for_log(f"running jobs have {seconds} s")

        status = started.wait()

    assert status == 0, started.log
    row = client.get(job_id)
    assert row is not None
    assert (row.state, row.attempt, row.uncounted) == (JobState.AVAILABLE, 1, 1)
    assert row.errors == []
    client.close()


def test_s12_a_second_signal_alone_ends_a_long_drain(dsn: str, tmp_path: Path) -> None:
    client = make_client(dsn, workers=tasks.WORKERS)
    log = tmp_path / "log"
    job_id = client.insert("x", tasks.Task(log=str(log), seconds=1000))
    with StartedApp(tmp_path, dsn, app=PATIENT) as started:
        wait_until(log.exists, what="the job to begin")
        started.signal(TERM)
        started.wait_for_log("have 600 s")
        started.signal(TERM)

        status = started.wait()

    assert status == 0, started.log
    row = client.get(job_id)
    assert row is not None
    assert row.state is JobState.AVAILABLE
    client.close()


@pytest.mark.parametrize(("prefix", "stops"), [((), True), (("nohup",), False)])
def test_s12_a_hangup_stops_a_supervisor_unless_it_is_ignored(
    dsn: str, tmp_path: Path, prefix: tuple[str, ...], stops: bool
) -> None:
    with StartedApp(tmp_path, dsn, prefix=prefix) as started:
        started.wait_for_log("started")
        started.signal(signal.SIGHUP)
        if not stops:
            with make_client(dsn, workers=tasks.WORKERS) as client:
                ended(client, client.insert("x", tasks.Task()))
            assert "draining" not in started.log
            started.signal(TERM)

        assert started.wait() == 0, started.log


def test_s12_a_burst_of_signals_is_an_orderly_stop(dsn: str, tmp_path: Path) -> None:
    client = make_client(dsn, workers=tasks.WORKERS)
    job_id = client.insert("x", tasks.Task(log=str(tmp_path / "log"), seconds=1000))
    with StartedApp(tmp_path, dsn, app=PATIENT) as started:
        wait_until((tmp_path / "log").exists, what="the job to begin")
        for _ in range(100):
            started.signal(TERM)
            started.signal(INT)

        status = started.wait()

    assert status == 0, started.log
    assert "Traceback" not in started.log
    row = client.get(job_id)
    assert row is not None
    assert row.state is JobState.AVAILABLE
    client.close()


@pytest.mark.parametrize("number", [TERM, INT, signal.SIGHUP])
def test_s12_signals_until_the_very_end_are_an_orderly_stop(
    dsn: str, tmp_path: Path, number: signal.Signals
) -> None:
    with StartedApp(tmp_path, dsn) as started:
        started.wait_for_log("started")

        while started.process.poll() is None:
            started.signal(number)

        assert started.wait() == 0, started.log
        assert "Traceback" not in started.log


def test_s12_a_signal_while_modules_are_imported_ends_the_start(dsn: str, tmp_path: Path) -> None:
    imported = tmp_path / "imported"
    (tmp_path / "slow.py").write_text(
        f"import pathlib, time\npathlib.Path({str(imported)!r}).touch()\ntime.sleep(1000)\n"
    )
    app = APP.replace("processes=1", "processes=1, preload=['slow']")
    with StartedApp(tmp_path, dsn, app=app) as started:
        wait_until(imported.exists, what="the import to begin")

        started.signal(TERM)

        assert started.wait() == 0, started.log
        assert started.processes() == []


LOSES_IT = """
import os, signal
class Ended:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):
            pass
Ended()
"""
"""Ctrl-C where Python can only print what a signal handler raises, as in its import system."""


def test_s12_a_ctrl_c_while_modules_are_imported_is_never_lost(dsn: str, tmp_path: Path) -> None:
    with StartedApp(tmp_path, dsn, app=LOSES_IT + APP) as started:
        assert started.wait() == -INT, started.log
        assert "started" not in started.log
        assert started.processes() == []
