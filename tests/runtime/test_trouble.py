"""How often, and with how much, a storage in trouble is asked."""

from __future__ import annotations

from synk import telemetry
from synk.runtime.trouble import PAUSE_MAX_S, PAUSE_S, REDUCED_S, BatchLimit, Trouble
from synk.telemetry import Fact, Telemetry


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_d16_pauses_grow_up_to_five_seconds_and_no_two_loops_keep_step() -> None:
    told = Telemetry()
    pauses = [
        [trouble.began(RuntimeError("no")) for _ in range(12)]
        for trouble in (Trouble("a loop", told) for _ in range(200))
    ]

    longest = [max(at_once) for at_once in zip(*pauses, strict=True)]
    shortest = [min(at_once) for at_once in zip(*pauses, strict=True)]
    assert longest[0] <= PAUSE_S
    assert longest[-1] <= PAUSE_MAX_S
    assert shortest[-1] >= PAUSE_MAX_S / 2
    assert all(len(set(at_once)) > 100 for at_once in zip(*pauses, strict=True))


def test_d16_trouble_is_told_once_when_it_begins_and_once_when_it_ends() -> None:
    told = Telemetry()
    facts: list[Fact] = []
    told.subscribe(facts.append)
    trouble = Trouble("a loop", told)

    for _ in range(2):
        for _ in range(50):
            trouble.began(RuntimeError("no"))
        trouble.ended()
        trouble.ended()

    assert [type(fact) for fact in facts] == [
        telemetry.StorageTrouble,
        telemetry.StorageRecovered,
    ] * 2
    assert trouble.began(RuntimeError("no")) <= PAUSE_S


def test_d18_a_batch_that_was_too_much_is_halved_and_stays_small_for_a_while() -> None:
    clock = Clock()
    limit = BatchLimit(clock)
    assert limit.of(500) == 500

    limit.was_too_much(500)
    assert (limit.of(500), limit.of(100)) == (250, 100)
    limit.was_too_much(250)
    clock.now += REDUCED_S / 2
    assert limit.of(500) == 125
    clock.now += REDUCED_S
    assert [limit.of(500), limit.of(500)] == [250, 250]
    clock.now += REDUCED_S
    assert limit.of(500) == 500
    clock.now += REDUCED_S
    assert limit.of(5000) == 1000
    clock.now += REDUCED_S
    assert [limit.of(900), limit.of(9000)] == [900, 9000]


def test_d18_one_job_is_always_asked_for() -> None:
    limit = BatchLimit(Clock())

    for _ in range(3):
        limit.was_too_much(1)

    assert limit.of(500) == 1
