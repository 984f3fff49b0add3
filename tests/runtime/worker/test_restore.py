"""What a job changes in its process: put back before the next, or the process is replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import synk
from support.acting import acting, error_of, run
from support.jobs.acts import Act
from support.jobs.state import SPOILS
from support.supervising import ended, wait_until
from synk import Cause, JobState


@pytest.fixture(scope="module")
def client(shared_dsn: str) -> Iterator[synk.Client]:
    """With one worker, so that one job after the other runs in the same process."""
    with acting(shared_dsn, processes=1) as client:
        yield client


@pytest.mark.parametrize("what", SPOILS)
def test_w19_what_one_job_spoils_the_next_finds_as_it_was(client: synk.Client, what: str) -> None:
    if what == "cpus" and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this process may use one CPU only")
    before = run(client, "look")

    spoiled = run(client, "spoil", text=what)
    after = run(client, "look")

    assert spoiled.state is JobState.COMPLETED
    assert spoiled.result != before.result
    assert after.result == before.result
    assert before.pid == spoiled.pid == after.pid


@pytest.mark.parametrize("what", ["own handlers", "mask"])
def test_w19_a_kill_leaves_a_stack_also_after_a_job_that_took_its_signal_over(
    client: synk.Client, what: str
) -> None:
    spoiled = run(client, "spoil", text=what)
    killed = error_of(run(client, "hold_gil", timeout_s=0.3))

    assert killed.cause is Cause.TIMEOUT
    assert killed.pid == spoiled.pid
    assert "in hold_gil" in killed.trace


def test_w19_an_alarm_that_a_job_leaves_behind_ends_none_that_follows(
    client: synk.Client,
) -> None:
    """Nor any that travels in the same batch, right behind it."""
    for job_id in client.insert_many([("warm up", Act("nothing"))] * 300):
        ended(client, job_id)
    jobs = [("alarm", Act("spoil", text="alarm"))]
    jobs += [("behind", Act("run_for", number=10_000)) for _ in range(80)]

    rows = [ended(client, job_id) for job_id in client.insert_many(jobs)]

    assert {(row.state, row.attempt) for row in rows} == {(JobState.COMPLETED, 1)}
    assert len({row.pid for row in rows}) == 1


def test_w19_what_cannot_be_put_back_replaces_the_process(client: synk.Client) -> None:
    row = run(client, "give_up_privileges")
    after = run(client, "look")

    assert row.state is JobState.COMPLETED
    assert after.state is JobState.COMPLETED
    assert after.pid != row.pid


def test_w19_a_fresh_process_for_each_job_keeps_nothing_of_any(dsn: str) -> None:
    """Also not the environment, the module path, and what modules hold."""
    with acting(dsn, processes=1, max_jobs=1) as client:
        rows = [run(client, "change_the_interpreter") for _ in range(3)]

    assert len({row.pid for row in rows}) == 3
    assert [row.result for row in rows] == [[False] * 3] * 3


@pytest.mark.parametrize(
    ("do", "number"), [("thread_leak", 100), ("descriptor_leak", 300), ("child_leak", 20)]
)
def test_w26_a_worker_whose_jobs_leak_is_replaced(
    client: synk.Client, do: str, number: int
) -> None:
    leaking = run(client, do, number=number)

    assert leaking.state is JobState.COMPLETED
    wait_until(lambda: run(client, "nothing").pid != leaking.pid, what="another worker")


@pytest.mark.parametrize("do", ["thread_leak", "descriptor_leak", "child_leak"])
def test_w26_a_worker_whose_jobs_leave_a_few_things_serves_on(client: synk.Client, do: str) -> None:
    leaking = run(client, do, number=5)

    pids = [run(client, "run_for", number=100_000).pid for _ in range(4)]
    assert set(pids) == {leaking.pid}
