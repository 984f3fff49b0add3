"""Jobs that run out of time: killed for good, with the stack of that moment, and nobody else is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import synk
from support.acting import begun, error_of, insert, is_gone, lines, run
from support.pool_world import World, job
from support.supervising import ended, wait_until
from synk import Cause, JobState
from synk.core import messages as m
from synk.core.limits import QueueLimits

HANGS = ["spin", "hold_gil", "count_in_c", "sleep_in_c", "eight_threads"]
DEAF = ["ignore_signals", "block_signals", "lose_stack", "dump_that_crashes"]


@pytest.mark.parametrize("do", [*HANGS, *DEAF, "stop_self", "execv_sleep"])
def test_w4_w5_no_job_outlives_its_timeout_and_each_leaves_its_stack_if_it_can(
    client: synk.Client, tmp_path: Path, do: str
) -> None:
    log = tmp_path / "log"

    row = run(client, do, log=log, timeout_s=0.3)

    error = error_of(row)
    assert error.cause is Cause.TIMEOUT
    assert "the timeout of its worker is 0.3 s" in error.error
    assert error.duration_s is not None
    assert 0.3 <= error.duration_s < 20
    assert is_gone(begun(log, do))
    if do in HANGS:
        assert f"in {do}" in error.trace
        assert "it was in " in error.error
        # The frames below the handler are always the same, and left out.
        assert "work.py" not in error.trace
    elif do in DEAF:
        assert "misbehaviour.py" not in error.trace
        assert error.trace.startswith("no stack: ")


def test_w5_a_stack_tells_of_all_threads(client: synk.Client) -> None:
    assert error_of(run(client, "eight_threads", timeout_s=0.3)).trace.count("Thread 0x") == 8


def test_w5_the_stack_of_the_job_comes_before_those_of_its_many_threads(
    client: synk.Client,
) -> None:
    error = error_of(run(client, "many_threads", number=90, timeout_s=0.3))

    own, _, others = error.trace.partition("\nThread 0x")
    assert own.startswith("Current thread 0x")
    assert "in many_threads" in own
    assert "; it was in hold_gil at " in error.error
    assert "in wait\n" in others


def test_w5_of_more_threads_than_python_shows_none_is_taken_for_the_job(
    client: synk.Client,
) -> None:
    error = error_of(run(client, "many_threads", number=120, timeout_s=0.3))

    assert "it was in " not in error.error
    assert "in wait\n" in error.trace


def test_a_soft_timeout_is_raised_in_the_job_which_knows_its_deadline(
    client: synk.Client, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    row = run(client, "finish_at_soft_timeout", log=log, timeout_s=20, soft_s=0.3)

    assert row.state is JobState.COMPLETED
    assert row.result == "the soft time limit of 0.3 s is over"
    _, left_s, tidied = lines(log)
    assert 10 < float(left_s[1]) <= 20
    assert tidied == ["tidied", "up"]


def test_a_job_that_a_soft_timeout_ends_is_a_timeout_with_its_traceback(
    client: synk.Client,
) -> None:
    error = error_of(run(client, "nap", timeout_s=20, soft_s=0.2))

    assert error.cause is Cause.TIMEOUT
    assert error.error.endswith("SoftTimeout: the soft time limit of 0.2 s is over")
    assert "in nap" in error.trace


def test_every_job_of_a_worker_can_be_asked_to_end(client: synk.Client) -> None:
    """Not only its first: what is put back between two jobs must leave the asking alone."""
    errors: list[synk.AttemptError] = []
    for _ in range(5):
        # Of two workers; one that was asked runs no other job.
        run(client, "run_for", number=1000)
        errors.append(error_of(run(client, "nap", timeout_s=20, soft_s=0.1)))

    assert {error.cause for error in errors} == {Cause.TIMEOUT}
    assert len({error.pid for error in errors}) == 5


def test_a_job_that_swallows_its_soft_timeout_is_killed_at_its_timeout(
    client: synk.Client, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    error = error_of(run(client, "swallow", log=log, timeout_s=0.6, soft_s=0.2))

    assert lines(log)[1:] == [["swallowed", "SoftTimeout"]]
    assert error.cause is Cause.TIMEOUT
    assert error.error.startswith("killed after ")


def one_job_of_about_its_timeout(world: World, number: int, chance: random.Random) -> None:
    world.claim(job(number))
    slot = next(slot for slot, worker in world.workers.items() if worker.waiting)
    assert world.begin(slot) == number, "a job that was settled runs again"
    world.now += 1.0 + chance.choice([-0.001, -0.000001, 0.0, 0.000001, 0.001])
    match chance.randrange(3):
        case 0:
            world.finish(slot)
        case 1:
            world.finish(slot, tell=False)
            world.look()
        case _:
            world.look()
    if world.workers[slot].running and not world.workers[slot].dying:
        world.finish(slot)
    elif world.workers[slot].dying:
        if world.workers[slot].running and chance.random() < 0.5:
            world.finish(slot, tell=False)
        world.exit(slot)
        world.ready(slot)


def test_w17_a_kill_never_hits_the_next_job_of_five_thousand() -> None:
    """Each runs for as long as it may, give or take a thousandth; what follows never suffers."""
    chance = random.Random(17)
    limits = {"default": QueueLimits(max_workers=9, timeout_s=1.0)}
    world = World(slots=2, queues=limits)
    world.all_ready()

    for number in range(1, 5001):
        one_job_of_about_its_timeout(world, number, chance)
    world.check()

    assert {reason for _, reason, _ in world.kills} == {m.KillReason.TIMEOUT}
    killed = [running for _, _, running in world.kills]
    assert len(killed) == len(set(killed)) > 500
    assert set(world.ended) <= set(killed)
    assert len(world.ended) + len(world.successes) == 5000


def test_w17_real_jobs_of_exactly_their_timeout_end_once_and_alone(
    client: synk.Client, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    chance = random.Random(5)
    late, innocent = [], []
    for _ in range(60):
        length_us = 30_000 + chance.randint(-1000, 1000)
        late.append(insert(client, "run_for", number=length_us, timeout_s=0.03, log=log))
        innocent.append(insert(client, "run_for", number=100, log=log))

    for job_id in innocent:
        row = ended(client, job_id)
        assert (row.state, row.attempt, row.errors) == (JobState.COMPLETED, 1, [])
    rows = [ended(client, job_id) for job_id in late]
    for row in rows:
        if row.state is JobState.COMPLETED:
            assert row.errors == []
        else:
            assert error_of(row).cause is Cause.TIMEOUT
    # Nothing ran twice.
    assert len(lines(log)) == 120


@pytest.mark.parametrize("finishes_first", [True, False])
def test_w18_a_result_counts_if_it_was_there_before_the_kill(finishes_first: bool) -> None:
    world = World(slots=1)
    world.all_ready()
    world.claim(job(1))
    world.begin(0)
    world.advance(10.1)
    assert world.kills == [(0, m.KillReason.TIMEOUT, 1)]

    if finishes_first:
        world.finish(0, m.Reply(result="7"), tell=False)
    world.exit(0)

    ended_ = world.ended[1]
    assert world.settled[1] == 1
    assert (ended_.outcome.result == "7") is finishes_first
    assert (ended_.outcome.error is None) is finishes_first


def test_w18_a_real_job_may_finish_between_the_decision_and_the_kill(client: synk.Client) -> None:
    outcomes: list[JobState] = []

    def one_that_finished() -> bool:
        row = run(client, "finish_when_killed", timeout_s=0.2)
        outcomes.append(row.state)
        if row.state is JobState.COMPLETED:
            assert (row.result, row.errors, row.attempt) == ("done", [], 1)
        else:
            assert error_of(row).cause is Cause.TIMEOUT
        return JobState.COMPLETED in outcomes

    wait_until(one_that_finished, what="one that was quicker than its kill")
