"""An orderly shutdown: what happens in which order, and what cannot keep it from ending."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from lifecycle import tasks
from starting import APP, StartedApp
from supervising import make_client, wait_until
from synk import JobState

PAIR = APP.replace("processes=1", "processes=2")


def test_q1_the_log_tells_of_a_shutdown_step_by_step(dsn: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    quick = [("quick", tasks.Task())] * 300
    long = [
        ("ends", tasks.Task(log=str(log), text="ends", seconds=1.0)),
        ("stays", tasks.Task("child", log=str(log), text="stays")),
    ]
    with make_client(dsn, workers=tasks.WORKERS) as client:
        with StartedApp(tmp_path, dsn, app=PAIR) as started:
            ids = client.insert_many([*quick, *long, *quick])
            wait_until(lambda: sorted(tasks.notes(log, "begun")) == ["ends", "stays"])

            started.signal(signal.SIGTERM)
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
        "running jobs have 3 s",
        "running jobs have 0 s",
        rf"job {stays.id} \(task\) was killed after \d+\.\d s: its time was over at a shutdown",
        r"all workers have ended; \d+ outcomes are still to be stored",
        "stopped",
    ]
    assert re.search(".*".join(steps), started.log, re.DOTALL), started.log
