"""A loop's thread: when it takes a step, and how it ends."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from support.supervising import DEADLINE_S
from synk.runtime.supervisor.loop_runner import LoopRunner


class Loop:
    """Tells of each step, and pauses as it is told."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.runner = LoopRunner("test", self.failures.append, clock=lambda: 7.0)
        self.steps: queue.Queue[float] = queue.Queue()
        self.pauses: queue.Queue[float] = queue.Queue()
        self.ended = threading.Event()

    def start(self) -> None:
        self.runner.start(self._step, close=self.ended.set)

    def _step(self, now: float) -> float:
        self.steps.put(now)
        return self.pauses.get(timeout=DEADLINE_S)

    def has_stepped(self, pause_s: float) -> float:
        """Waits for a step to begin, and ends it; returns what time it was told."""
        now = self.steps.get(timeout=DEADLINE_S)
        self.pauses.put(pause_s)
        return now


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.runner.stop()
    loop.pauses.put(0.0)
    loop.runner.join(DEADLINE_S)
    assert loop.failures == []


def test_the_first_step_comes_at_once_and_is_told_the_time(loop: Loop) -> None:
    loop.start()

    assert loop.has_stepped(math.inf) == 7.0


def test_the_next_step_comes_after_the_pause_that_the_last_one_asked_for(loop: Loop) -> None:
    loop.start()

    for pause_s in (0.0, 0.001, 0.0):
        loop.has_stepped(pause_s)

    loop.has_stepped(math.inf)


def test_a_loop_that_waits_to_be_woken_takes_a_step_when_it_is(loop: Loop) -> None:
    loop.start()
    loop.has_stepped(math.inf)

    loop.runner.wake()

    loop.has_stepped(math.inf)


def test_a_wake_up_during_a_step_brings_another_step(loop: Loop) -> None:
    loop.start()
    loop.steps.get(timeout=DEADLINE_S)

    loop.runner.wake()
    loop.pauses.put(math.inf)

    loop.has_stepped(math.inf)


def test_a_loop_that_is_stopped_ends_after_the_step_that_is_under_way(loop: Loop) -> None:
    loop.start()
    loop.steps.get(timeout=DEADLINE_S)

    loop.runner.stop()
    assert not loop.ended.is_set()
    loop.pauses.put(0.0)

    assert loop.ended.wait(DEADLINE_S)
    assert loop.steps.empty()


def test_a_loop_that_is_to_finish_does_all_that_there_is_to_do(loop: Loop) -> None:
    loop.start()
    loop.has_stepped(math.inf)

    loop.runner.finish()
    for pause_s in (0.0, 0.001, 0.0, math.inf):
        assert not loop.ended.is_set()
        loop.has_stepped(pause_s)

    assert loop.ended.wait(DEADLINE_S)


def test_a_loop_sees_what_came_before_it_was_told_to_finish(loop: Loop) -> None:
    """A step that began earlier may have missed it."""
    loop.start()
    loop.steps.get(timeout=DEADLINE_S)
    loop.runner.finish()
    loop.pauses.put(math.inf)

    loop.has_stepped(math.inf)

    assert loop.ended.wait(DEADLINE_S)


def test_a_loop_that_is_told_to_stop_before_it_began_takes_no_step(loop: Loop) -> None:
    loop.runner.stop()

    loop.start()

    assert loop.ended.wait(DEADLINE_S)
    assert loop.steps.empty()


def test_no_wake_up_is_missed_however_many_threads_wake_it() -> None:
    counted = [0] * 4
    seen = [0] * 4
    failures: list[BaseException] = []
    runner = LoopRunner("test", failures.append)

    def step(_now: float) -> float:
        seen[:] = counted
        return math.inf

    def count(place: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(2_000):
                counted[place] += 1
                runner.wake()

        return run

    threads = [threading.Thread(target=count(place)) for place in range(4)]
    runner.start(step)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    runner.finish()
    runner.join(DEADLINE_S)

    assert seen == [2_000] * 4
    assert failures == []


def test_what_a_step_raises_ends_the_loop_and_is_told_after_it_was_closed() -> None:
    told: queue.Queue[object] = queue.Queue()
    runner = LoopRunner("test", told.put)

    def step(_now: float) -> float:
        raise ValueError("a bug")

    runner.start(step, close=lambda: told.put("closed"))

    assert told.get(timeout=DEADLINE_S) == "closed"
    assert str(told.get(timeout=DEADLINE_S)) == "a bug"
    runner.join(DEADLINE_S)
