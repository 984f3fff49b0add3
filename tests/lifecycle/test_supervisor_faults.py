"""What happens to a supervisor itself: killed, stopped, blocked, or badly surrounded."""

from __future__ import annotations

import signal
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

import synk
from support.jobs import handlers, tasks
from support.supervising import (
    SCRIPT,
    SupervisorProcess,
    ended,
    make_client,
    steady,
    supervised,
    wait_until,
)
from synk import Cause, JobState, telemetry
from synk.core.messages import Command, Event
from synk.core.pool import Pool
from synk.runtime.ipc import linux
from synk.runtime.supervisor import unstored

ONCE = synk.InsertOptions(max_retries=0)


def test_s5_a_blocked_loop_kills_late_and_says_where_it_was(dsn: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    facts: list[telemetry.Fact] = []
    with supervised(dsn, workers=tasks.WORKERS) as client:
        client.telemetry.subscribe(facts.append)
        task = tasks.Task("hold_gil", log=str(log), timeout_s=0.5)
        job_id = client.insert("x", task, ONCE)
        wait_until(log.exists, what="the job to begin")
        assert client._service is not None

        client._service._supervisor.engine.call(lambda _: time.sleep(3.0))
        row = ended(client, job_id)
        wait_until(lambda: any(isinstance(fact, telemetry.LoopResumed) for fact in facts))

    [stalled] = [fact for fact in facts if isinstance(fact, telemetry.LoopStalled)]
    assert "test_supervisor_faults.py" in stalled.place
    assert row.errors[-1].cause is Cause.TIMEOUT
    assert row.duration is not None
    assert timedelta(seconds=2) < row.duration < timedelta(seconds=15)
    assert f"killed after {row.duration.total_seconds():.1f} s" in row.errors[-1].error


CAREFUL = f"from synk.runtime.supervisor import unstored\nunstored.UNSTORED_MAX = 200\n{SCRIPT}"
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'no space left' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON synk.job FOR EACH ROW
    WHEN (NEW.state = 'completed') EXECUTE FUNCTION refuse();
"""


def test_s8_a_supervisor_that_dies_with_outcomes_in_hand_costs_a_bounded_number_of_repeats(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    """The database takes claims and refuses outcomes: they wait, up to a limit."""
    log = tmp_path / "log"
    jobs = [("x", tasks.Task(log=str(log), text=str(n), seconds=0.003)) for n in range(1500)]
    connection.execute(REFUSE)
    options = "{'workers': __import__('support.jobs.tasks').jobs.tasks.WORKERS}"
    with make_client(dsn, workers=tasks.WORKERS) as client:
        client.insert_many(jobs)
        with SupervisorProcess(dsn, options, script=CAREFUL) as supervisor:
            wait_until(lambda: len(tasks.notes(log, "done")) > 200)
            wait_until(steady(lambda: len(tasks.notes(log, "done"))))
            supervisor.signal(signal.SIGKILL)
            supervisor.process.wait()
        done = len(tasks.notes(log, "done"))
        connection.execute("DROP TRIGGER refuse ON synk.job")
        # At once, instead of when its lease is over.
        connection.execute("UPDATE synk.client SET dead_at = now()")
        with supervised(dsn, workers=tasks.WORKERS, lease_ttl=timedelta(seconds=6)):
            wait_until(lambda: client.storage.counts() == {JobState.COMPLETED: 1500})

    runs = Counter(tasks.notes(log, "done"))
    assert 200 < done < 900
    assert len(runs) == 1500
    assert runs.total() <= 1500 + done


def test_s8_claims_go_on_once_outcomes_are_stored_again(
    dsn: str, connection: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unstored, "UNSTORED_MAX", 100)
    connection.execute(REFUSE)
    log = tmp_path / "log"
    with supervised(dsn, workers=tasks.WORKERS) as client:
        client.insert_many([("x", tasks.Task(log=str(log), seconds=0.003))] * 600)
        wait_until(lambda: len(tasks.notes(log, "done")) > 100)
        wait_until(steady(lambda: len(tasks.notes(log, "done"))))
        assert client.storage.counts()[JobState.AVAILABLE] > 0

        connection.execute("DROP TRIGGER refuse ON synk.job")

        wait_until(lambda: client.storage.counts() == {JobState.COMPLETED: 600})
    assert len(tasks.notes(log, "done")) == 600


def test_s8_outcomes_that_wait_are_bounded_by_what_they_weigh(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    """Of 16 MiB, where all of the results are 54 MB; none of them is lost."""
    connection.execute(REFUSE)
    log = tmp_path / "log"
    job = ("x", tasks.Task(how="tell", log=str(log)))
    with supervised(dsn, workers=tasks.WORKERS, max_held_bytes=16 << 20) as client:
        client.insert_many([job] * 900)
        wait_until(lambda: len(tasks.notes(log, "done")) > 100)
        wait_until(steady(lambda: len(tasks.notes(log, "done"))))
        done = len(tasks.notes(log, "done"))

        connection.execute("DROP TRIGGER refuse ON synk.job")

        wait_until(lambda: client.storage.counts() == {JobState.COMPLETED: 900})
    found = connection.execute(
        "SELECT count(*) FROM synk.job WHERE attempt = 1 AND length(result::text) > 60000"
    ).fetchone()
    assert found == (900,)
    assert len(tasks.notes(log, "done")) == 900
    assert done * 60_000 < 2 * (16 << 20)


def test_a_failing_engine_gives_its_jobs_back_and_leaves_no_process(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the supervisor costs nobody an attempt."""
    log = tmp_path / "log"

    def broken(self: Pool, event: Event, now: float) -> list[Command]:
        if log.exists():
            raise AssertionError("a bug")
        return handle(self, event, now)

    handle = Pool.handle
    rows: list[synk.JobRow] = []
    left: list[int] = []
    monkeypatch.setattr(Pool, "handle", broken)
    # One worker: a second one might be done with the short jobs before the long one begins.
    with pytest.raises(AssertionError, match="a bug"), supervised(dsn, processes=1) as client:  # noqa: PT012
        tag = str(client.id)
        jobs = [("x", handlers.Write(str(log), sleep_s=1000)), *[("y", handlers.Noop())] * 3]
        ids = client.insert_many(jobs)
        wait_until(log.exists, what="the job to begin")
        wait_until(lambda: client._service is None, what="the supervisor to fail")

        rows += client.storage.get(ids)
        left += linux.tagged_processes(tag)

    assert len(rows) == 4
    assert {row.state for row in rows} == {JobState.AVAILABLE}
    assert all(row.attempt == row.uncounted for row in rows)
    assert left == []
