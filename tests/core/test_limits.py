"""The pool's decisions about limits, recycling, and what a death means, with a virtual clock."""

from __future__ import annotations

import json

import pytest

from support.pool_world import World, fence, job
from synk.core import messages as m
from synk.core.limits import QueueLimits
from synk.core.slot import SlotState
from synk.failure import AttemptError, Cause
from synk.retry import Verdict
from synk.row import CancelReason

CANCELLED = m.Reply(error='{"error": "x"}', cancelled=True)
MIB = 1024 * 1024


@pytest.fixture
def world() -> World:
    world = World(slots=2)
    world.all_ready()
    return world


def recycling(**options) -> World:
    world = World(slots=3, **options)
    world.all_ready()
    return world


def error_of(world: World, job_id: int) -> AttemptError:
    error = world.ended[job_id].outcome.error
    assert error is not None
    return AttemptError.from_dict(json.loads(error))


def test_a_job_is_told_once_when_its_soft_limit_is_over(world: World) -> None:
    world.claim(job(1))
    world.begin(0, soft_s=2.0, timeout_s=5.0)

    world.advance(1.9)
    assert world.asked == []
    world.advance(2.0)

    assert world.asked == [(0, 1, m.Request.SOFT_TIMEOUT)]
    assert world.kills == []


def test_after_the_soft_limit_the_hard_one_holds(world: World) -> None:
    world.claim(job(1))
    world.begin(0, soft_s=2.0, timeout_s=5.0)

    world.advance(5.1)
    world.exit(0)

    assert world.kills == [(0, m.KillReason.TIMEOUT, 1)]
    assert "the timeout of its worker is 5 s" in error_of(world, 1).error


def test_the_soft_limit_of_one_job_is_not_that_of_the_next(world: World) -> None:
    world.claim(job(1))
    world.begin(0, soft_s=2.0)
    world.advance(1.0)
    world.finish(0)
    world.claim(job(2))
    world.begin(0)

    world.advance(3.0)

    assert world.asked == []


def test_a_job_that_ends_on_request_is_told_when_its_process_is_gone(world: World) -> None:
    world.claim(job(1))
    world.begin(0)
    world.handle(m.CancelRequested([fence(world.claimed[1])]))

    world.finish(0, CANCELLED)

    assert 1 not in world.ended
    assert world.kills == [(0, m.KillReason.CANCELLED, None)]
    world.exit(0)
    assert world.ended[1].verdict is Verdict.CANCELLED
    world.check()


def test_a_job_that_completes_though_it_was_asked_to_end_is_completed(world: World) -> None:
    world.claim(job(1))
    world.begin(0)
    world.handle(m.CancelRequested([fence(world.claimed[1])]))

    world.finish(0)

    assert world.successes == [1]
    world.advance(10.0)
    assert world.kills == []


def test_without_grace_a_cancelled_job_is_killed_at_once() -> None:
    world = recycling(cancel_grace_s=0.0)
    world.claim(job(1))
    world.begin(0)

    world.handle(m.CancelRequested([fence(world.claimed[1])]))

    assert world.asked == []
    assert world.kills == [(0, m.KillReason.CANCELLED, 1)]


def test_nothing_waits_behind_a_job_that_was_asked_to_end(world: World) -> None:
    world.claim(job(1))
    world.begin(0)
    world.handle(m.CancelRequested([fence(world.claimed[1])]))

    world.claim(job(2), job(3))

    assert [held.job.id for held in world.pool.slots[0].in_flight] == [1]


def test_a_job_over_its_memory_is_killed_and_told_by_how_much() -> None:
    world = World(queues={"default": QueueLimits(max_workers=9, timeout_s=10.0, rss_max=100 * MIB)})
    world.all_ready()
    world.claim(job(1))
    world.begin(0)
    world.tell(0)

    world.handle(m.Sampled(0, 1, 90 * MIB, 99 * MIB))
    assert world.kills == []
    world.handle(m.Sampled(0, 1, 90 * MIB, 150 * MIB))
    world.exit(0)

    assert world.kills == [(0, m.KillReason.MEMORY, 1)]
    error = error_of(world, 1)
    assert error.cause is Cause.MEMORY
    assert "it used 157 MB of memory, max_rss of queue default is 105 MB" in error.error


def test_a_sample_of_the_job_before_kills_nobody(world: World) -> None:
    world.claim(job(1))
    world.begin(0, rss_max=MIB)
    world.tell(0)
    world.finish(0)
    world.claim(job(2))
    world.begin(0, rss_max=MIB)
    world.tell(0)

    world.handle(m.Sampled(0, 1, 90 * MIB, 90 * MIB))

    assert world.kills == []


def test_a_worker_is_replaced_after_its_share_of_jobs() -> None:
    world = World(slots=1, max_jobs=2)
    world.all_ready()
    world.claim(job(1), job(2), job(3))

    world.run_one(0)
    world.run_one(0)

    assert world.pool.slots[0].state is SlotState.LEAVING
    assert not world.pool.slots[0].in_flight
    world.exit(0, m.Exit(code=0))
    world.ready(0)
    world.run_one(0)
    assert world.successes == [1, 2, 3]


def test_workers_are_replaced_one_at_a_time() -> None:
    world = recycling(max_jobs=1)
    world.claim(job(1), job(2), job(3))
    for slot in range(3):
        world.run_one(slot)

    states = [slot.state for slot in world.pool.slots]
    assert states == [SlotState.LEAVING, SlotState.SERVING, SlotState.SERVING]
    world.exit(0, m.Exit(code=0))
    assert world.pool.slots[1].state is SlotState.SERVING
    world.ready(0)

    assert world.pool.slots[1].state is SlotState.LEAVING
    assert world.pool.slots[2].state is SlotState.SERVING


def test_a_worker_that_holds_too_much_memory_is_replaced_between_jobs() -> None:
    world = recycling(max_worker_rss=100 * MIB)
    world.claim(job(1))
    world.begin(0)
    world.tell(0)

    world.handle(m.Sampled(0, 1, 101 * MIB, 101 * MIB))
    assert world.pool.slots[0].state is SlotState.SERVING
    world.finish(0)

    assert world.pool.slots[0].state is SlotState.LEAVING
    assert world.successes == [1]


def test_a_worker_that_asks_to_be_replaced_is_replaced_and_no_job_is_blamed(world: World) -> None:
    world.claim(job(1))
    world.run_one(0)

    world.exit(0, m.Exit(code=72, problem="jobs have left 90 threads running"))

    assert world.successes == [1]
    assert world.ended == {}
    assert world.pool.slots[0].state is SlotState.STARTING


def test_the_third_crash_is_poison_whatever_the_retries(world: World) -> None:
    world.claim(job(1, max_attempts=100, crashes=2))
    world.begin(0)

    world.exit(0, m.Exit(code=-11, signal="SIGSEGV", pid=5))

    outcome = world.ended[1].outcome
    assert outcome.cancel_reason is CancelReason.POISON
    assert outcome.crashed


@pytest.mark.parametrize("reason", [m.KillReason.TIMEOUT, m.KillReason.SHUTDOWN])
def test_a_kill_of_ours_is_no_crash(world: World, reason: m.KillReason) -> None:
    world.claim(job(1))
    world.begin(0)
    if reason is m.KillReason.SHUTDOWN:
        world.handle(m.DrainRequested(world.now))
    world.advance(11.0)

    world.exit(0)

    assert world.kills[0][1] is reason
    assert not world.ended[1].outcome.crashed


def test_nobody_is_blamed_for_the_death_of_the_engine(world: World) -> None:
    world.claim(job(1))
    world.begin(0)

    world.exit(0, m.Exit(code=None, engine_failed=True))

    assert world.ended[1].verdict is Verdict.RELEASED
    assert world.ended[1].interrupted
    assert world.ended[1].outcome.uncharged


def test_a_kill_by_the_kernel_for_want_of_memory_is_told_as_such(world: World) -> None:
    world.claim(job(1))
    world.begin(0)

    world.exit(0, m.Exit(code=-9, signal="SIGKILL", by_kernel=True))

    assert error_of(world, 1).cause is Cause.MEMORY
    assert "oom_kill" in error_of(world, 1).error


def test_the_workers_own_alarm_is_a_timeout(world: World) -> None:
    world.claim(job(1))
    world.begin(0)
    world.now += 16.0

    world.exit(0, m.Exit(code=-14, signal="SIGALRM"))

    assert error_of(world, 1).cause is Cause.TIMEOUT
    assert "its worker's own timer" in error_of(world, 1).error


def test_a_killed_job_says_where_it_was(world: World) -> None:
    stack = 'Current thread 0x1 (most recent call first):\n  File "/app/thumbs.py", line 41 in cut'
    world.claim(job(1))
    world.begin(0)
    world.advance(11.0)

    world.exit(0, m.Exit(code=-12, signal="SIGUSR2", stack=stack))

    assert error_of(world, 1).error == (
        "killed after 11.0 s: the timeout of queue default is 10 s; it was in cut at thumbs.py:41"
    )


LIBRARY = """Current thread 0x1 (most recent call first):
  File "/usr/lib/python3.12/ctypes/__init__.py", line 519 in string_at
  File "<frozen importlib._bootstrap>", line 488 in _call
  File "/venv/lib/python3.12/site-packages/PIL/Image.py", line 900 in resize
"""
OWN = '  File "/app/thumbs.py", line 41 in cut\n'
INSTALLED = '  File "/venv/lib/python3.12/site-packages/shop/thumbs.py", line 7 in cut\n'
OTHER_THREAD = '\nThread 0x2 (most recent call first):\n  File "/app/poll.py", line 3 in poll\n'


@pytest.mark.parametrize(
    ("stack", "place"),
    [
        (LIBRARY + OWN + OWN.replace("41", "99"), "cut at thumbs.py:41"),
        (LIBRARY + OWN + LIBRARY.partition("\n")[2] + OTHER_THREAD, "cut at thumbs.py:41"),
        # The application itself is installed.
        (LIBRARY + INSTALLED, "cut at thumbs.py:7"),
        (LIBRARY + INSTALLED + OTHER_THREAD, "cut at thumbs.py:7"),
        ("\n".join(LIBRARY.splitlines()[:2]), "string_at at __init__.py:519"),
    ],
)
def test_where_a_killed_job_was_is_told_by_the_users_own_code(
    world: World, stack: str, place: str
) -> None:
    world.claim(job(1))
    world.begin(0)
    world.advance(11.0)

    world.exit(0, m.Exit(code=-12, signal="SIGUSR2", stack=stack))

    assert error_of(world, 1).error.endswith(f"; it was in {place}")


def test_a_kill_is_recorded_as_the_sigkill_that_it_is(world: World) -> None:
    for number, exit_ in enumerate(
        (m.Exit(code=-12, signal="SIGUSR2"), m.Exit(code=-9, signal="SIGKILL"))
    ):
        world.claim(job(number))
        world.begin(0)
        world.advance(11.0)
        world.exit(0, exit_)
        world.ready(0)

        assert error_of(world, number).signal == "SIGKILL"


def test_a_pool_that_once_worked_never_gives_up(world: World) -> None:
    for _ in range(20):
        world.exit(0, m.Exit(code=1, problem="no memory"))
        world.advance(20.0)

    assert world.gave_up is None
