"""How often, and with how much, a storage in trouble is asked."""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Sequence

import pytest

from support.acknowledging import acknowledging_loop
from support.model import ModelStorage
from support.supervising import DEADLINE_S
from synk import telemetry
from synk.claim import AckAnswer, Outcome
from synk.errors import StorageError, StorageUnavailable
from synk.runtime.supervisor import backoff as backoff_module
from synk.runtime.supervisor.backoff import (
    PAUSE_MAX_S,
    PAUSE_S,
    REDUCED_S,
    SCOUT_PAUSE_S,
    Backoff,
    BatchLimit,
    StorageLink,
)
from synk.telemetry import Fact, Telemetry

OWNER = uuid.UUID(int=1)
NOW = 100.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW


def test_d16_pauses_grow_up_to_five_seconds_and_no_two_loops_keep_step() -> None:
    told = Telemetry()
    pauses = [
        [backoff.failed(RuntimeError("no"), NOW) for _ in range(12)]
        for backoff in (Backoff("a loop", told) for _ in range(200))
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
    backoff = Backoff("a loop", told)

    for _ in range(2):
        for _ in range(50):
            backoff.failed(RuntimeError("no"), NOW)
        backoff.succeeded(NOW)
        backoff.succeeded(NOW)

    assert [type(fact) for fact in facts] == [
        telemetry.StorageFailing,
        telemetry.StorageRecovered,
    ] * 2
    assert backoff.failed(RuntimeError("no"), NOW) <= PAUSE_S


def test_d18_a_batch_that_was_too_much_is_halved_and_stays_small_for_a_while() -> None:
    now = NOW
    limit = BatchLimit()
    assert limit.of(500, now) == 500

    limit.was_too_much(500, now)
    assert (limit.of(500, now), limit.of(100, now)) == (250, 100)
    limit.was_too_much(250, now)
    now += REDUCED_S / 2
    assert limit.of(500, now) == 125
    now += REDUCED_S
    assert [limit.of(500, now), limit.of(500, now)] == [250, 250]
    now += REDUCED_S
    assert limit.of(500, now) == 500
    now += REDUCED_S
    assert limit.of(5000, now) == 1000
    now += REDUCED_S
    assert [limit.of(900, now), limit.of(9000, now)] == [900, 9000]


def test_d18_one_job_is_always_asked_for() -> None:
    limit = BatchLimit()

    for _ in range(3):
        limit.was_too_much(1, NOW)

    assert limit.of(500, NOW) == 1


def test_d16_who_gets_through_first_ends_the_pauses_of_all_whose_line_was_broken() -> None:
    told = Telemetry()
    lease, claims, acks, other = (Backoff(name, told) for name in ("lease", "claims", "acks", "x"))
    woken: list[str] = []
    link = StorageLink()
    for name, backoff in {"lease": lease, "claims": claims, "acks": acks, "x": other}.items():
        link.join(backoff, lambda name=name: woken.append(name))
    for _ in range(12):
        lease.failed(StorageUnavailable("down"), NOW)
        claims.failed(StorageUnavailable("down"), NOW)
        acks.failed(StorageError("this statement is refused"), NOW)

    lease.succeeded(NOW)

    assert woken == ["claims"]
    assert claims.failed(StorageUnavailable("still down here"), NOW) <= PAUSE_S
    assert acks.failed(StorageError("refused again"), NOW) > PAUSE_S


def test_d16_a_loop_whose_own_statement_was_refused_wakes_nobody_when_that_is_over() -> None:
    told = Telemetry()
    refused, waiting = Backoff("refused", told), Backoff("waiting", told)
    woken: list[str] = []
    link = StorageLink()
    link.join(refused, lambda: woken.append("refused"))
    link.join(waiting, lambda: woken.append("waiting"))
    refused.failed(StorageError("refused"), NOW)
    waiting.failed(StorageUnavailable("down"), NOW)

    refused.succeeded(NOW)

    assert woken == []


class Loop:
    """Tries at once, and again after each pause, until it gets through."""

    def __init__(self, backoff: Backoff, link: StorageLink, clock: Clock) -> None:
        self.backoff = backoff
        self.tries: list[float] = []
        self.through_at: float | None = None
        self.due = clock.now
        link.join(backoff, lambda: setattr(self, "due", clock.now))

    def attempt(self, now: float, *, is_down: bool) -> None:
        self.tries.append(now)
        if is_down:
            self.due = now + self.backoff.failed(StorageUnavailable("connection refused"), now)
            return
        self.due, self.through_at = math.inf, now
        self.backoff.succeeded(now)


def lived_through(down_s: float) -> list[Loop]:
    """Those of a supervisor after a time without a server, each in trouble of its own."""
    clock, link, told = Clock(), StorageLink(), Telemetry()
    loops = [
        Loop(Backoff(str(number), told, is_scout=number < 2), link, clock) for number in range(6)
    ]
    back_at = clock.now + down_s
    while any(loop.through_at is None for loop in loops):
        soonest = min(loops, key=lambda loop: loop.due)
        clock.now = max(clock.now, soonest.due)
        soonest.attempt(clock.now, is_down=clock.now < back_at)
    return loops


@pytest.mark.parametrize("down_s", [0.5, 3.0, 30.0, 33.3, 300.0])
def test_d16_all_loops_are_back_within_a_second_however_long_a_server_was_down(
    down_s: float,
) -> None:
    back_at = Clock().now + down_s

    late = [
        (loop.through_at or math.inf) - back_at for _ in range(20) for loop in lived_through(down_s)
    ]

    assert max(late) <= SCOUT_PAUSE_S


def test_d16_a_supervisor_whose_server_is_down_asks_for_it_four_times_a_second() -> None:
    """A fleet of a hundred must not storm a server that is starting."""
    for _ in range(20):
        tries = sorted(at for loop in lived_through(60.0) for at in loop.tries)
        began = tries[0] + 10
        late = [at for at in tries if began <= at < began + 40]
        assert len(late) <= 4 * 40


class Down(ModelStorage):
    """Nothing can be asked, until `is_back`."""

    is_back = False

    def update_job_state(self, owner: uuid.UUID, outcomes: Sequence[Outcome]) -> list[AckAnswer]:
        if not self.is_back:
            raise StorageUnavailable("down")
        return super().update_job_state(owner, outcomes)


def test_d16_outcomes_do_not_wait_for_the_end_of_a_long_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after half a minute without a server, but for the minute that this pause would take."""
    monkeypatch.setattr(backoff_module, "PAUSE_S", 120.0)
    monkeypatch.setattr(backoff_module, "PAUSE_MAX_S", 120.0)
    storage, told = Down(), Telemetry()
    failed, recovered = threading.Event(), threading.Event()
    told.subscribe(
        lambda fact: failed.set() if isinstance(fact, telemetry.StorageFailing) else None
    )
    told.subscribe(
        lambda fact: recovered.set() if isinstance(fact, telemetry.StorageRecovered) else None
    )
    link, lease = StorageLink(), Backoff("lease", Telemetry())
    link.join(lease, lambda: None)
    lease.failed(StorageUnavailable("down"), NOW)
    with acknowledging_loop(storage, OWNER, told) as (acks, runner):
        link.join(acks.backoff, runner.wake)
        acks.offer([Outcome(1, 1, 1)])
        assert failed.wait(DEADLINE_S)

        storage.is_back = True
        lease.succeeded(NOW)

        assert recovered.wait(DEADLINE_S)
