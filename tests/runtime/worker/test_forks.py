"""What a job forks without another program: children like any script's, and no second worker."""

from __future__ import annotations

import ast
import signal
from pathlib import Path

import pytest

import synk
from support.acting import acting, error_of, noted, run
from support.jobs import forking
from synk import Cause, JobState

C_LIBRARY = 1 << 31 | 1 << 32
"""The signals 32 and 33, which it keeps for its threads."""


def masks(told: object) -> list[tuple[str, int]]:
    lines = [line.split() for line in ast.literal_eval(str(told))]
    return [(name, int(mask, 16) & ~C_LIBRARY) for name, mask in lines]


def test_a_child_that_a_job_forks_dies_of_sigterm(client: synk.Client) -> None:
    row = run(client, "terminate_process", number=10)

    assert row.result == [-signal.SIGTERM] * 10


def test_a_pool_that_a_job_forks_ends_with_its_block(client: synk.Client) -> None:
    row = run(client, "use_pools", number=10)

    assert row.result == [285] * 10


def test_an_executor_that_forks_works_in_a_job(client: synk.Client) -> None:
    assert run(client, "use_executor").result == 285


def test_a_fork_has_signals_as_under_a_plain_script(client: synk.Client) -> None:
    row = run(client, "look_at_dispositions")

    assert isinstance(row.result, list)
    here, plain = map(masks, row.result)
    assert here == plain


def test_a_fork_in_a_thread_of_a_job_is_like_one_in_the_job(client: synk.Client) -> None:
    row = run(client, "fork_in_a_thread")

    assert isinstance(row.result, list)
    in_thread, in_job = map(masks, row.result)
    assert in_thread == in_job
    assert len(in_job) == 3


def test_a_handler_that_a_job_sets_is_its_childs_too(client: synk.Client) -> None:
    assert run(client, "fork_with_own_handler").result == 41


def test_an_interrupt_raises_in_a_fork(client: synk.Client) -> None:
    assert run(client, "interrupt_child").result == "KeyboardInterrupt"


def test_a_child_that_crashes_leaves_no_stack_in_the_record_of_its_job(
    client: synk.Client, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    row = run(client, "crash_child", log=log, timeout_s=1.0)

    assert noted(log, "child")[1] == str(-signal.SIGSEGV)
    error = error_of(row)
    assert error.cause is Cause.TIMEOUT
    assert "Segmentation fault" not in error.trace
    assert error.trace.count("in crash_child") == 1


def test_w7_a_fork_has_nothing_that_speaks_for_its_worker(client: synk.Client) -> None:
    row = run(client, "look_at_descriptors_of_child")

    # What is left of the page can only be read: it tells of a cancel.
    assert row.result == ["[1, 2]", "[0, 1]"]


def test_a_fork_of_a_job_does_not_note_for_it_and_says_so(client: synk.Client) -> None:
    row = run(client, "note_in_child")
    after = run(client, "nothing")

    assert row.result == "False"
    assert row.progress is not None
    assert (row.progress.done, row.progress.note) == (1, "in the job")
    assert row.checkpoint is None
    assert row.output.count("from a forked child") == 1
    assert (after.progress, after.checkpoint) == (None, None)


def test_w12_a_fork_that_leaves_the_handler_ends_as_a_script_does(client: synk.Client) -> None:
    row = run(client, "leave_by_exit")

    assert row.result == [3, 1, 1, -signal.SIGINT]
    for text in ("exit", "text", "raise", "interrupt"):
        assert row.output.count(f"child says {text}") == 1
    assert "child gives up" in row.output
    assert "LookupError: child fails" in row.output
    assert "in leave_by_exit" in row.output
    assert "work.py" not in row.output


def test_w8_a_fork_after_all_descriptors_were_closed_works(client: synk.Client) -> None:
    assert error_of(run(client, "fork_without_descriptors")).exit_code == 7


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_a_worker_may_fork_before_its_first_job(dsn: str, start_method: str) -> None:
    with acting(
        dsn, processes=1, start_method=start_method, on_worker_start=forking.pool_at_start
    ) as client:
        row = run(client, "look_at_pool_of_start")
        terminated = run(client, "terminate_process", number=2)

    assert (row.state, row.result) == (JobState.COMPLETED, "285")
    assert terminated.result == [-signal.SIGTERM] * 2
