"""An orderly shutdown: what happens in which order, and what cannot keep it from ending."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Literal

import psycopg
import pytest

import synk
from support.jobs import handlers, tasks
from support.proxy import Proxy
from support.starting import APP, StartedApp
from support.supervising import ended, make_client, steady, supervised, wait_until
from synk import Cause, JobState

PAIR = APP.replace("processes=1", "processes=2")
CALM = f"from synk.runtime.supervisor import supervisor\nsupervisor.HASTE_S = 20.0\n{PAIR}"


def test_q1_the_log_tells_of_a_shutdown_step_by_step(dsn: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    quick = [("quick", tasks.Task())] * 300
    long = [
        ("ends", tasks.Task(log=str(log), text="ends", seconds=2.0)),
        ("stays", tasks.Task("child", log=str(log), text="stays")),
    ]
    with make_client(dsn, workers=tasks.WORKERS) as client:
        with StartedApp(tmp_path, dsn, app=CALM) as started:
            ids = client.insert_many([*quick, *long])
            wait_until(lambda: sorted(tasks.notes(log, "begun")) == ["ends", "stays"])
            ids += client.insert_many(quick)
            wait_until(lambda: client.storage.get(ids[-1:])[0].attempt == 1, what="a claim")

            started.signal(signal.SIGTERM)
            started.wait_for_log("gave back")
            wait_until(lambda: tasks.notes(log, "done"), what="one of the long jobs to end")
            # Little time for the other, and then none.
            for _ in range(2):
                draining = started.log.count("draining")
                started.signal(signal.SIGTERM)
                wait_until(lambda n=draining: started.log.count("draining") > n)

            assert started.wait() == 0, started.log
            assert started.processes() == []
        ends, stays, *others = client.storage.get(ids)[300:]

    assert (ends.state, ends.attempt) == (JobState.COMPLETED, 1)
    assert (stays.state, stays.attempt, stays.uncounted, stays.errors) == (
        JobState.AVAILABLE, 1, 1, [],
    )  # fmt: skip
    given_back = [row for row in others if row.state is JobState.AVAILABLE and row.attempt]
    assert all(row.attempt == row.uncounted for row in given_back)
    told = map(int, re.findall(r"gave back (\d+) jobs", started.log))
    assert sum(told) == len(given_back) > 0
    steps = [
        "started: 2 worker processes",
        "draining: claims no more; running jobs have 25 s to finish",
        r"gave back \d+ jobs that had not begun",
        "running jobs have 20 s",
        "running jobs have 0 s",
        rf"job {stays.id} \(task\) was killed after \d+\.\d s: its time was over at a shutdown",
        r"all workers have ended; \d+ outcomes are still to be stored",
        "stopped",
    ]
    assert re.search(".*".join(steps), started.log, re.DOTALL), started.log


def test_q2_a_sigkill_in_the_middle_of_a_drain_loses_nothing(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with make_client(dsn, workers=tasks.WORKERS) as client:
        with StartedApp(tmp_path, dsn) as started:
            long = client.insert("long", handlers.Once(str(log)))
            wait_until(log.exists, what="the job to begin")
            waiting = client.insert_many([("x", tasks.Task())] * 5)
            started.signal(signal.SIGTERM)
            started.wait_for_log("draining")
            started.signal(signal.SIGKILL)
            started.wait()
            wait_until(lambda: started.processes() == [])
        # At once, instead of when its lease is over.
        connection.execute("UPDATE synk.client SET dead_at = now()")
        with supervised(dsn, workers=tasks.WORKERS):
            rows = [ended(client, job_id) for job_id in [long, *waiting]]

    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert [error.cause for error in rows[0].errors] == [Cause.LOST]
    assert log.read_text().split() == ["1", "2"]


@pytest.mark.parametrize("at", ["question", "answer"])
def test_q5_a_claim_that_is_under_way_when_the_drain_begins_is_given_back(
    dsn: str, tmp_path: Path, at: Literal["question", "answer"]
) -> None:
    log = tmp_path / "log"
    with Proxy(dsn) as proxy, make_client(dsn, workers=tasks.WORKERS) as direct:
        ids = direct.insert_many([("x", tasks.Task(log=str(log)))] * 3)
        trap = proxy.trap("claim", at=at)
        with StartedApp(tmp_path, proxy.dsn) as started:
            trap.wait()
            started.signal(signal.SIGTERM)
            started.wait_for_log("draining")

            trap.let_go()

            assert started.wait() == 0, started.log
        rows = direct.storage.get(ids)

    assert sum(row.attempt for row in rows) > 0
    assert {(row.state, row.attempt - row.uncounted) for row in rows} == {(JobState.AVAILABLE, 0)}
    assert not log.exists()
    assert "that had not begun" in started.log


def test_q5_due_retries_and_announcements_keep_no_drain_from_ending(
    dsn: str, tmp_path: Path
) -> None:
    """Three jobs fail all the time, and others arrive, while one runs on."""
    log, later, gate = tmp_path / "log", tmp_path / "later", tmp_path / "gate"
    failing = tasks.Task("fail", log=str(log), text="fails")
    options = synk.InsertOptions(max_retries=10_000)
    with make_client(dsn, workers=tasks.WORKERS) as client:
        long_id = client.insert("long", handlers.Slow(str(gate)))
        client.insert_many([("fails", failing, options)] * 3)
        with StartedApp(tmp_path, dsn, app=PAIR) as started:
            wait_until(lambda: len(tasks.notes(log, "begun")) > 6, what="retries")
            started.signal(signal.SIGTERM)
            started.wait_for_log("draining")
            wait_until(steady(lambda: len(tasks.notes(log, "begun")), 0.3))
            before = len(tasks.notes(log, "begun"))
            inserted = [client.insert("y", tasks.Task(log=str(later))) for _ in range(30)]
            assert started.process.poll() is None

            gate.touch()

            assert started.wait() == 0, started.log
        long, *others = client.storage.get([long_id, *inserted])
        counts = client.storage.counts()

    assert len(tasks.notes(log, "begun")) == before
    assert long.state is JobState.COMPLETED
    assert {(row.state, row.attempt - row.uncounted) for row in others} == {(JobState.AVAILABLE, 0)}
    assert JobState.RUNNING not in counts
    assert not later.exists()
