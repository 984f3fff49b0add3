"""What a job starts: none of it outlives the kill of the job, wherever it went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import synk
from support.acting import (
    acting,
    begun,
    error_of,
    fork_server_of,
    insert,
    is_gone,
    lines,
    noted,
    run,
    spare_of,
    workers_of,
)
from support.supervising import ended, wait_until
from synk import Cause, JobState
from synk.runtime.ipc import linux

CHILDREN = ["child_plain", "child_in_own_group", "child_in_own_session"]


@pytest.mark.parametrize("do", CHILDREN)
def test_w6_a_timeout_ends_also_what_the_job_had_started(
    client: synk.Client, tmp_path: Path, do: str
) -> None:
    log = tmp_path / "log"

    row = run(client, do, log=log, path=tmp_path / "never", timeout_s=0.5)

    child = int(noted(log, "child")[1])
    # At once: the attempt is over only when this is true.
    assert is_gone(child)
    assert error_of(row).cause is Cause.TIMEOUT


def test_w6_what_a_crash_leaves_behind_ends_with_it(client: synk.Client, tmp_path: Path) -> None:
    log = tmp_path / "log"

    row = run(client, "crash_with_child", log=log)

    assert error_of(row).signal == "SIGSEGV"
    assert is_gone(int(noted(log, "child")[1]))


def test_w6_a_chain_of_ever_new_processes_is_caught(client: synk.Client, tmp_path: Path) -> None:
    """Each is in a session of its own, and the child of one that is gone."""
    row = run(client, "child_that_forks_on", path=tmp_path / "never", timeout_s=1.0)

    assert error_of(row).cause is Cause.TIMEOUT
    fork_server = fork_server_of(client.id)
    wait_until(
        lambda: (
            len(workers := workers_of(fork_server)) == 2
            and set(linux.tagged_processes(str(client.id)))
            == {fork_server, *workers, *spare_of(fork_server)}
        ),
        what="nothing else to be there",
    )


def test_w6_the_children_of_others_live_on(client: synk.Client, tmp_path: Path) -> None:
    log, other = tmp_path / "log", tmp_path / "other"
    living = insert(client, "child_in_own_session", log=log, path=tmp_path / "release")
    child = int(noted(log, "child")[1])

    run(client, "child_in_own_session", log=other, path=tmp_path / "never", timeout_s=0.5)

    assert is_gone(int(noted(other, "child")[1]))
    assert not is_gone(child)
    (tmp_path / "release").touch()
    assert ended(client, living).state is JobState.COMPLETED


@pytest.mark.parametrize("do", ["child_plain", "child_in_own_session"])
def test_w6_it_is_the_same_where_workers_are_spawned(dsn: str, tmp_path: Path, do: str) -> None:
    log = tmp_path / "log"
    with acting(dsn, start_method="spawn", processes=1) as client:
        row = run(client, do, log=log, path=tmp_path / "never", timeout_s=0.7)

        assert is_gone(int(noted(log, "child")[1]))

    assert error_of(row).cause is Cause.TIMEOUT


def test_w6_what_completed_jobs_left_running_ends_with_their_worker(
    dsn: str, tmp_path: Path
) -> None:
    with acting(dsn, processes=1, max_jobs=1) as client:
        row = run(client, "child_leak", number=3, log=tmp_path / "log")
        assert row.state is JobState.COMPLETED
        # Another worker runs this one, so the first one is gone and reaped.
        assert run(client, "nothing").pid != row.pid

        fork_server = fork_server_of(client.id)
        wait_until(
            lambda: (
                set(linux.children(fork_server))
                == {*workers_of(fork_server), *spare_of(fork_server)}
            )
        )


def test_w6_a_kill_waits_for_no_child_and_hits_only_its_own_worker(
    client: synk.Client, tmp_path: Path
) -> None:
    log, release = tmp_path / "log", tmp_path / "release"
    other = insert(client, "wait", log=log, path=release)
    begun(log, "wait")

    for do in CHILDREN:
        run(client, do, log=tmp_path / do, path=tmp_path / "never", timeout_s=0.4)
    release.touch()
    row = ended(client, other)

    assert (row.state, row.attempt) == (JobState.COMPLETED, 1)
    assert len(lines(log)) == 1


@pytest.mark.parametrize("is_killed", [False, True])
def test_w6_a_forkserver_that_a_job_starts_ends_with_its_worker(
    dsn: str, tmp_path: Path, is_killed: bool
) -> None:
    log = tmp_path / "log"
    limits: dict[str, Any] = {"path": tmp_path / "never", "timeout_s": 3.0} if is_killed else {}
    with acting(dsn, processes=1, max_jobs=1) as client:
        row = run(client, "use_forkserver", log=log, **limits)
        server = int(noted(log, "server")[1])

        assert row.state is (JobState.CANCELLED if is_killed else JobState.COMPLETED)
        assert run(client, "nothing").pid != row.pid
        wait_until(lambda: is_gone(server))
