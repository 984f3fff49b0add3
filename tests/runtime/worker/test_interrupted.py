"""An exception that is raised in the middle of a job: no other job runs in what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import synk
from support.acting import acting, error_of, insert, noted, run
from support.supervising import ended
from synk import Cause, Change, JobState

SLOW = """
import sys
half_done = "half_done_" + __name__
if hasattr(sys, half_done):
    raise ImportError("cannot load module more than once per process")
setattr(sys, half_done, True)
with open({log!r}, "a") as file:
    file.write("imports\\n")
import time
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    time.sleep(0.01)
VALUE = "imported"
"""
"""Of the kind that cannot be imported again where it was interrupted, as pandas and numpy."""


@pytest.fixture(scope="module")
def client(shared_dsn: str) -> Iterator[synk.Client]:
    with acting(shared_dsn, processes=1) as client:
        yield client


def slow_module(folder: Path, seconds: float) -> dict[str, Any]:
    name = f"slow_{folder.name}"
    log = folder / "log"
    (folder / f"{name}.py").write_text(SLOW.format(log=str(log), seconds=seconds))
    return {"text": name, "path": str(folder), "log": str(log)}


@pytest.mark.parametrize("do", ["import_slowly", "import_slowly_and_go_on"])
def test_a_soft_timeout_in_an_import_spoils_no_job_that_follows(
    client: synk.Client, tmp_path: Path, do: str
) -> None:
    module = slow_module(tmp_path, 0.6)

    interrupted = run(client, do, timeout_s=20, soft_s=0.3, **module)
    after = run(client, "import_slowly", **module)

    if do == "import_slowly":
        assert error_of(interrupted).cause is Cause.TIMEOUT
    else:
        assert interrupted.result == "went on"
    assert (after.state, after.attempt, after.result) == (JobState.COMPLETED, 1, "imported")
    assert after.pid != interrupted.pid


def test_a_job_that_survives_its_cancel_is_the_last_of_its_process(
    client: synk.Client, tmp_path: Path
) -> None:
    module = slow_module(tmp_path, 20)
    job_id = insert(client, "import_slowly_and_go_on", **module)
    noted(tmp_path / "log", "imports")

    assert client.cancel(job_id) is Change.REQUESTED
    row = ended(client, job_id)
    after = run(client, "nothing")

    assert (row.state, row.result) == (JobState.COMPLETED, "went on")
    assert (after.state, after.attempt) == (JobState.COMPLETED, 1)
    assert after.pid != row.pid


def test_jobs_behind_an_interrupted_one_are_not_charged(client: synk.Client) -> None:
    ids = [insert(client, "nap", timeout_s=20, soft_s=0.1)]
    ids += [insert(client, "nothing") for _ in range(40)]

    rows = [ended(client, job_id) for job_id in ids]

    assert error_of(rows[0]).cause is Cause.TIMEOUT
    assert {(row.state, row.attempt, row.crashes) for row in rows[1:]} == {
        (JobState.COMPLETED, 1, 0)
    }
    assert rows[0].pid not in {row.pid for row in rows[1:] if row.id > rows[0].id}
