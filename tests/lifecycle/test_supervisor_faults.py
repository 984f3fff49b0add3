"""What happens to a supervisor itself: killed, stopped, blocked, or badly surrounded."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import synk
from lifecycle import tasks
from supervising import ended, supervised, wait_until
from synk import Cause, telemetry

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

        client._service._supervisor._engine.call(lambda _: time.sleep(3.0))
        row = ended(client, job_id)
        wait_until(lambda: any(isinstance(fact, telemetry.LoopResumed) for fact in facts))

    [stalled] = [fact for fact in facts if isinstance(fact, telemetry.LoopStalled)]
    assert "test_supervisor_faults.py" in stalled.place
    assert row.errors[-1].cause is Cause.TIMEOUT
    assert row.duration is not None
    assert timedelta(seconds=2) < row.duration < timedelta(seconds=15)
    assert f"killed after {row.duration.total_seconds():.1f} s" in row.errors[-1].error
