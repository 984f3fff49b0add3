"""Worker processes that end in every way there is, and what that means for jobs and for others."""

from __future__ import annotations

import ast
import faulthandler
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

import synk
from support.acting import (
    begun,
    both_workers_of,
    error_of,
    fork_server_of,
    insert,
    is_gone,
    noted,
    run,
    workers_of,
)
from support.supervising import ended, wait_until
from synk import CancelReason, Cause, JobState
from synk.runtime.ipc import linux

SOURCE = Path(synk.__file__).parent

C_STACK = "Current thread's C stack trace (most recent call first):\n"
"""What begins it in the text that Python writes, from 3.14 on."""


def test_w1_workers_share_nothing_of_multiprocessing() -> None:
    """A lock or a queue that a killed worker held would stop all others for ever."""
    allowed = {"spawn", "reduction", "process"}
    used: set[str] = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.ImportFrom(module=str(module)) if module.startswith("multiprocessing"):
                    used |= {alias.name for alias in node.names}
                case ast.Import():
                    names = [alias.name for alias in node.names]
                    assert not [name for name in names if name.startswith("multiprocessing")]
                case _:
                    pass

    assert used == allowed


def test_w2_a_death_touches_no_other_worker(client: synk.Client, tmp_path: Path) -> None:
    log, release = tmp_path / "log", tmp_path / "release"
    other = insert(client, "wait", log=log, path=release)
    pid = begun(log, "wait")

    for do in ("segv", "os_exit", "abort"):
        assert run(client, do).state is JobState.CANCELLED
    release.touch()
    row = ended(client, other)

    assert (row.state, row.attempt, row.result, row.pid) == (JobState.COMPLETED, 1, "waited", pid)


@pytest.mark.parametrize(
    ("do", "number", "cause", "signal_name", "code"),
    [
        ("os_exit", 0, Cause.EXIT, None, 0),
        ("os_exit", 3, Cause.EXIT, None, 3),
        ("segv", 0, Cause.SIGNAL, "SIGSEGV", None),
        ("abort", 0, Cause.SIGNAL, "SIGABRT", None),
        ("double_free", 0, Cause.SIGNAL, "SIGABRT", None),
        ("bus_error", 0, Cause.SIGNAL, "SIGBUS", None),
        ("kill_self", signal.SIGKILL, Cause.SIGNAL, "SIGKILL", None),
        ("kill_self", signal.SIGTERM, Cause.SIGNAL, "SIGTERM", None),
        ("kill_self", signal.SIGALRM, Cause.SIGNAL, "SIGALRM", None),
        ("kill_self", signal.SIGUSR2, Cause.SIGNAL, "SIGUSR2", None),
    ],
)
def test_w3_an_end_of_the_process_is_a_failure_that_says_which_end(
    client: synk.Client, do: str, number: int, cause: Cause, signal_name: str, code: int
) -> None:
    row = run(client, do, number=int(number))

    error = error_of(row)
    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.FAILED)
    assert (error.cause, error.signal, error.exit_code) == (cause, signal_name, code)
    assert (signal_name or f"status {code}") in error.error
    assert row.crashes == 1


@pytest.mark.parametrize(
    ("do", "shown"),
    [
        ("sys_exit", "SystemExit: 3"),
        ("keyboard_interrupt", "KeyboardInterrupt"),
        ("generator_exit", "GeneratorExit"),
    ],
)
def test_w3_what_ends_other_programs_is_an_exception_of_the_job(
    client: synk.Client, do: str, shown: str
) -> None:
    row = run(client, do, number=3)

    error = error_of(row)
    assert (error.cause, row.crashes) == (Cause.EXCEPTION, 0)
    assert error.error.startswith(shown)


def test_w3_a_job_is_tried_again_after_the_death_of_its_worker(
    client: synk.Client, shared_connection: psycopg.Connection
) -> None:
    job_id = insert(client, "segv_on_first_attempt", retries=1)
    wait_until(lambda: (row := client.get(job_id)) and row.state is JobState.SCHEDULED)

    shared_connection.execute("UPDATE synk.job SET scheduled_at = now() WHERE id = %s", [job_id])
    row = ended(client, job_id)

    assert (row.state, row.attempt, row.result) == (JobState.COMPLETED, 2, "well")
    assert [error.signal for error in row.errors] == ["SIGSEGV"]


@pytest.mark.parametrize(
    ("do", "shown", "place"),
    [
        ("segv", "Segmentation fault", "_ctypes"),
        ("abort", "Aborted", "abort+0x"),
        ("double_free", "Aborted", "abort+0x"),
        ("bus_error", "Bus error", "libc"),
    ],
)
def test_a_crash_in_c_leaves_the_stack_of_that_moment(
    client: synk.Client, do: str, shown: str, place: str
) -> None:
    """In Python, and from 3.14 on in C too."""
    error = error_of(run(client, do, timeout_s=30))

    python, _, c = error.trace.partition(C_STACK)
    assert python.startswith(f"Fatal Python error: {shown}\n")
    assert f"in {do}\n" in python
    assert "child.py" not in error.trace
    assert "; it was in " in error.error
    if hasattr(faulthandler, "dump_c_stack"):
        frames = [line for line in c.splitlines() if line.startswith('  Binary file "')]
        assert [frame for frame in frames if place in frame]
    else:
        assert c == ""


def test_a_crash_among_many_threads_leaves_the_stack_of_the_job(client: synk.Client) -> None:
    error = error_of(run(client, "segv_among_threads", number=90))

    own, _, others = error.trace.partition("\nThread 0x")
    assert own.startswith("Fatal Python error: Segmentation fault\n\nCurrent thread 0x")
    assert "in segv_among_threads\n" in own
    assert (C_STACK in own) == hasattr(faulthandler, "dump_c_stack")
    assert "in wait\n" in others
    assert "; it was in segv at misbehaviour.py:" in error.error


def test_exceptions_and_timeouts_are_no_crashes(client: synk.Client) -> None:
    assert run(client, "sys_exit").crashes == 0
    assert run(client, "spin", timeout_s=0.2).crashes == 0


def test_w7_a_child_that_keeps_everything_open_hides_no_death(
    client: synk.Client, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    row = run(client, "fork_and_exit", log=log, timeout_s=30)

    # Long before its timeout: it is the death that is noticed, not the end of a pipe.
    error = error_of(row)
    assert (error.cause, error.exit_code) == (Cause.EXIT, 3)
    assert error.duration_s is not None
    assert error.duration_s < 10
    child = int(noted(log, "child")[1])
    assert is_gone(child)
    assert row.pid is not None
    assert is_gone(row.pid)


@pytest.mark.parametrize("do", ["fork_returns", "fork_raises"])
def test_w12_a_fork_that_comes_back_gives_one_outcome_and_no_second_worker(
    client: synk.Client, tmp_path: Path, do: str
) -> None:
    fork_server = fork_server_of(client.id)

    rows = [run(client, do, log=tmp_path / "log") for _ in range(5)]

    assert {(row.state, row.attempt, row.result) for row in rows} == {
        (JobState.COMPLETED, 1, "parent")
    }
    assert run(client, "nothing").state is JobState.COMPLETED
    below = [pid for worker in workers_of(fork_server) for pid in linux.descendants(worker)]
    wait_until(lambda: all(is_gone(pid) for pid in below), what="the forks to end")


def test_w24_deaths_leave_no_zombie_and_steal_no_status_of_others(client: synk.Client) -> None:
    fork_server = fork_server_of(client.id)
    ids = [insert(client, "os_exit", number=n % 5) for n in range(60)]
    while any(not row.state.is_final for row in client.storage.get(ids)):
        done = subprocess.run(["sh", "-c", "exit 7"], check=False)
        assert done.returncode == 7

    codes = [error_of(row).exit_code for row in sorted(client.storage.get(ids), key=lambda r: r.id)]
    assert codes == [n % 5 for n in range(60)]
    dead = [pid for pid in linux.children(fork_server) if is_gone(pid)]
    wait_until(lambda: not [pid for pid in dead if Path(f"/proc/{pid}").exists()])


def test_the_death_of_an_idle_worker_is_nobodys_failure(client: synk.Client) -> None:
    before = set(both_workers_of(client.id))

    for pid in before:
        subprocess.run(["kill", "-9", str(pid)], check=True)
    rows = [run(client, "nothing") for _ in range(4)]

    assert {(row.state, row.attempt) for row in rows} == {(JobState.COMPLETED, 1)}
    assert not before & {row.pid for row in rows}
