"""The folder that a supervisor was started in is removed: jobs that do not use it go on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import synk
from support.acting import fork_server_of, run
from support.jobs.actors import WORKERS
from support.supervising import SCRIPT, SupervisorProcess, make_client
from synk import JobState

OPTIONS = (
    "dict(workers=__import__('support.jobs.actors').jobs.actors.WORKERS, processes=1,"
    " start_method={!r})"
)
IN_FOLDER = """
import os, sys
os.chdir({folder!r})
if {early}:
    os.rmdir({folder!r})
"""


def script(folder: Path, *, early: bool) -> str:
    return IN_FOLDER.format(folder=str(folder), early=early) + SCRIPT


def assert_all_is_well(client: synk.Client, supervisor: SupervisorProcess) -> None:
    """Jobs run, in one process, which is replaced where it dies or is asked to."""
    rows = [run(client, "run_for", number=1000) for _ in range(4)]
    assert {(row.state, row.attempt) for row in rows} == {(JobState.COMPLETED, 1)}
    assert len({row.pid for row in rows}) == 1
    moved = run(client, "spoil", text="folder")
    after = run(client, "look")
    assert (moved.pid, after.pid) == (rows[0].pid, rows[0].pid)
    assert isinstance(after.result, dict)
    assert after.result["folder"] == "none"
    assert run(client, "os_exit", number=3).errors[0].exit_code == 3
    assert run(client, "nothing").state is JobState.COMPLETED
    fork_server = fork_server_of(supervisor.tag)
    os.kill(fork_server, signal.SIGKILL)
    assert run(client, "nothing").state is JobState.COMPLETED


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
@pytest.mark.parametrize("early", [False, True])
def test_jobs_go_on_where_the_working_folder_was_removed(
    dsn: str, tmp_path: Path, start_method: str, early: bool
) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    options = OPTIONS.format(start_method)
    with (
        make_client(dsn, workers=WORKERS) as client,
        SupervisorProcess(dsn, options, script(folder, early=early)) as supervisor,
    ):
        if not early:
            assert run(client, "nothing").state is JobState.COMPLETED
            folder.rmdir()

        assert_all_is_well(client, supervisor)
        supervisor.signal(signal.SIGTERM)
        code, _, err = supervisor.wait()

    assert code == 0, err
    assert "Error" not in err
