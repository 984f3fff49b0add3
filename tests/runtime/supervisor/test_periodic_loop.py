"""The loop that takes ticks, in virtual time: on clocks that step, sleep, fail and stand still."""

from __future__ import annotations

import datetime as dt
import math
import random
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import pytest

from support.model import ModelStorage
from synk import telemetry
from synk.errors import InvalidJob, SchemaMismatch, StorageError, StorageUnavailable
from synk.periodic import Definition, Schedule
from synk.row import JobState
from synk.runtime.supervisor import periodic_loop
from synk.runtime.supervisor.periodic_loop import LOOK_S, SPREAD_S, PeriodicLoop
from synk.status import ClientStatus
from synk.storage.scheduling import DueSchedules, Taken, TickSwap
from synk.testing.making import AN_HOUR, status_of
from synk.tick_key import tick_of
from synk.ticks import Cron

MINUTE: Final = dt.timedelta(minutes=1)
HOUR: Final = dt.timedelta(hours=1)
DAY: Final = dt.timedelta(days=1)
OWNER: Final = uuid.UUID(int=1)
BY_MINUTE: Final = Definition(
    name="by minute", cron="* * * * *", every=None, tz="UTC", kind="k", args="{}", queue="default",
    priority=3, max_attempts=7, tags=(), meta=None, start_within=None, keep=None, missed="one",
    max_late=None, jitter=dt.timedelta(0), overlap="allow",
)  # fmt: skip


class Fleet:
    """Some supervisors on one storage, each in a loop of its own, and the storage's clock."""

    def __init__(self, *declared: Definition, size: int = 1, storage: Any = None) -> None:
        self.storage = ModelStorage() if storage is None else storage
        self.heard: list[telemetry.Fact] = []
        self.seconds = 0.0
        self.loops: list[PeriodicLoop] = []
        self.due: list[float] = []
        for _ in range(size):
            self.start(*declared)

    def start(self, *declared: Definition) -> int:
        owner = uuid.UUID(int=len(self.loops) + 1)
        self.storage.register_client(status_of(owner), AN_HOUR)
        facts = telemetry.Telemetry()
        facts.subscribe(self.heard.append)
        self.loops.append(PeriodicLoop(self.storage, owner, declared, facts))
        self.due.append(self.seconds)
        return len(self.loops) - 1

    def wake(self) -> None:
        """As when a new revision of the settings is heard of."""
        self.due = [min(each, self.seconds) for each in self.due]

    def run(self, duration: dt.timedelta) -> None:
        """Time goes by, on all clocks alike."""
        until = self.seconds + duration.total_seconds()
        while (at := min(self.due)) <= until:
            self.pass_time(at - self.seconds)
            place = self.due.index(at)
            self.due[place] = self.seconds + max(0.001, self.loops[place].step(self.seconds))
        self.pass_time(until - self.seconds)

    def pass_time(self, seconds: float) -> None:
        self.seconds += seconds
        self.storage.now += dt.timedelta(seconds=seconds)

    def sleep(self, duration: dt.timedelta) -> None:
        """Nobody runs, and all look again when they do."""
        self.pass_time(duration.total_seconds())
        self.due = [self.seconds for _ in self.due]

    def ticks(self) -> list[dt.datetime]:
        found = [tick_of(e.row.idempotency_key) for e in self.storage.entries.values()]
        return [each for each in found if each is not None]

    def of(self, kind: type[telemetry.Fact]) -> list[Any]:
        return [fact for fact in self.heard if isinstance(fact, kind)]

    def schedule(self, name: str = "by minute") -> Schedule:
        return self.storage.kept_schedules[name].schedule

    def finish_jobs(self) -> None:
        for entry in self.storage.entries.values():
            entry.change(state=JobState.COMPLETED)


def ticks_of(cron: Cron, first: dt.datetime, last: dt.datetime | None) -> list[dt.datetime]:
    assert last is not None
    found = [cron.after(first)]
    while found[-1] < last:
        found.append(cron.after(found[-1]))
    return found


def minutes(first: dt.datetime, count: int) -> list[dt.datetime]:
    return [first + n * MINUTE for n in range(1, count + 1)]


def test_each_tick_becomes_one_job_soon_after_its_time_whoever_runs() -> None:
    fleet = Fleet(BY_MINUTE, size=8)
    began = fleet.storage.now.replace(second=0, microsecond=0)

    fleet.run(HOUR)

    assert fleet.ticks() == minutes(began, 60)
    late = [
        entry.row.created_at - tick
        for entry, tick in zip(fleet.storage.entries.values(), fleet.ticks(), strict=True)
    ]
    assert max(late) < dt.timedelta(seconds=2 * SPREAD_S)
    assert fleet.of(telemetry.TicksSkipped) == []


@pytest.mark.parametrize(
    "zone",
    ["Europe/Berlin", "Pacific/Chatham", "Australia/Lord_Howe", "Antarctica/Troll",
     "America/Santiago"],
)  # fmt: skip
def test_a_year_of_supervisors_that_come_and_go_has_each_tick_once_or_skips_it(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of oban-py issue 17, good_job issue 1484 and pg-boss issue 914: a deploy falls on a tick."""
    monkeypatch.setattr(periodic_loop, "LOOK_S", DAY.total_seconds())
    chance = random.Random(zone)
    definition = replace(BY_MINUTE, cron="30 2,14 * * *", tz=zone, overlap="skip")
    fleet = Fleet(definition, size=8)
    fleet.storage.now = began = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    alive = list(range(8))
    while fleet.storage.now < began + 365 * DAY:
        fleet.run(HOUR * chance.uniform(0, 30))
        fleet.finish_jobs()
        if chance.random() < 0.5:
            for place in alive:
                fleet.due[place] = fleet.seconds + (math.inf if chance.random() < 0.5 else 0.0)
        if chance.random() < 0.2:
            fleet.sleep(chance.uniform(0, 5) * DAY)
        if min(fleet.due) == math.inf:
            fleet.due[0] = fleet.seconds

    fleet.due = [fleet.seconds] * 8
    fleet.run(MINUTE)
    schedule = fleet.schedule()
    *expected, last = ticks_of(Cron("30 2,14 * * *", zone), began, schedule.next_at)
    assert last == schedule.next_at, "the next tick is none"
    assert fleet.ticks() == sorted(set(fleet.ticks()))
    assert set(fleet.ticks()) <= set(expected)
    skipped = sum(fact.count for fact in fleet.of(telemetry.TicksSkipped))
    assert skipped == schedule.skipped > 0
    assert len(fleet.ticks()) + skipped == len(expected)


def test_five_hours_without_a_supervisor_are_one_job_and_one_line() -> None:
    """Of Foundatio issue 317 and dbos-transact-py issue 803, of a laptop that slept."""
    fleet = Fleet(BY_MINUTE)
    fleet.run(MINUTE)
    before = len(fleet.ticks())

    fleet.sleep(5 * HOUR)
    fleet.run(dt.timedelta(seconds=LOOK_S))

    assert len(fleet.ticks()) == before + 1
    (skipped,) = fleet.of(telemetry.TicksSkipped)
    assert (skipped.count, skipped.reason) == (299, "missed")
    assert "299 ticks skipped" in str(skipped)


def test_a_clock_of_the_storage_that_is_set_back_repeats_no_tick() -> None:
    """Of oban-py's CHANGELOG 0.6.2."""
    fleet = Fleet(BY_MINUTE)
    fleet.run(10 * MINUTE)
    before = fleet.ticks()

    fleet.storage.now -= 5 * MINUTE
    fleet.run(4 * MINUTE)
    assert fleet.ticks() == before
    fleet.run(6 * MINUTE)

    assert fleet.ticks() == minutes(before[0] - MINUTE, 15)


def test_a_clock_of_the_storage_that_is_set_forward_is_noticed_within_a_look() -> None:
    fleet = Fleet(replace(BY_MINUTE, cron="@hourly"))
    fleet.run(MINUTE)

    fleet.storage.now += HOUR
    fleet.run(dt.timedelta(seconds=LOOK_S))

    assert len(fleet.ticks()) == 1


def test_an_expression_that_changes_counts_from_then_on_and_makes_nothing_up() -> None:
    fleet = Fleet(replace(BY_MINUTE, cron="@yearly"))
    fleet.run(HOUR)
    changed_at = fleet.storage.now

    fleet.start(BY_MINUTE)
    fleet.run(3 * MINUTE)

    assert all(tick > changed_at - MINUTE for tick in fleet.ticks())
    assert len(fleet.ticks()) == 3
    assert fleet.of(telemetry.TicksSkipped) == []


def test_a_tick_between_a_change_and_the_first_look_at_it_is_not_lost() -> None:
    fleet = Fleet(replace(BY_MINUTE, cron="@yearly"))
    fleet.run(MINUTE)

    fleet.storage.declare_schedule(BY_MINUTE)
    fleet.pass_time(MINUTE.total_seconds() + 1)
    fleet.wake()
    fleet.run(dt.timedelta(seconds=1))

    assert len(fleet.ticks()) == 1


def test_two_versions_with_different_expressions_do_not_fight() -> None:
    fleet = Fleet(BY_MINUTE, size=2)
    fleet.start(replace(BY_MINUTE, cron="*/10 * * * *"))
    fleet.run(HOUR)

    assert fleet.schedule().cron == "*/10 * * * *"
    assert [fact.is_new for fact in fleet.of(telemetry.ScheduleDeclared)] == [True, False]
    assert len(fleet.ticks()) == 6


def test_while_the_last_job_is_not_over_ticks_are_skipped_with_a_line_each() -> None:
    fleet = Fleet(replace(BY_MINUTE, overlap="skip"))
    fleet.run(3 * MINUTE)
    fleet.finish_jobs()
    fleet.run(MINUTE)

    assert len(fleet.ticks()) == 2
    skipped = fleet.of(telemetry.TicksSkipped)
    assert [(fact.count, fact.reason) for fact in skipped] == [(1, "job 1 is not over")] * 2
    assert fleet.schedule().skipped == 2


def test_a_paused_schedule_ticks_no_more_and_makes_nothing_up() -> None:
    fleet = Fleet(BY_MINUTE)
    fleet.run(2 * MINUTE)
    fleet.storage.pause_schedule("by minute")
    fleet.run(HOUR)
    assert len(fleet.ticks()) == 2

    fleet.storage.resume_schedule("by minute")
    fleet.wake()
    fleet.run(MINUTE)

    assert len(fleet.ticks()) == 3
    assert fleet.of(telemetry.TicksSkipped) == []


def test_jitter_puts_the_job_off_and_not_its_tick() -> None:
    fleet = Fleet(replace(BY_MINUTE, jitter=HOUR))
    fleet.run(20 * MINUTE)

    rows = [entry.row for entry in fleet.storage.entries.values()]
    put_off = [row.scheduled_at - tick for row, tick in zip(rows, fleet.ticks(), strict=True)]
    assert all(dt.timedelta(0) <= each < HOUR for each in put_off)
    assert len(set(put_off)) == 20


def test_without_schedules_the_loop_rests_until_it_hears_of_some() -> None:
    fleet = Fleet()

    assert fleet.loops[0].step(0.0) == math.inf
    fleet.storage.declare_schedule(BY_MINUTE)
    assert fleet.loops[0].step(0.0) <= LOOK_S


def test_a_storage_without_schedules_is_asked_for_none() -> None:
    storage: Any = object()

    assert PeriodicLoop(storage, OWNER, [], telemetry.Telemetry()).step(0.0) == math.inf


class Before(ModelStorage):
    """Its schema is of before."""

    def due_schedules(self, limit: int) -> DueSchedules:
        raise SchemaMismatch("there is no such table: run `synk migrate`")

    def declare_schedule(self, definition: Definition) -> bool | None:
        self.due_schedules(1)


def test_on_a_schema_of_before_nothing_is_said_unless_something_is_declared() -> None:
    silent, told = Fleet(storage=Before()), Fleet(BY_MINUTE, storage=Before())
    silent.run(HOUR)
    told.run(HOUR)

    assert silent.heard == []
    (failing,) = told.of(telemetry.StorageFailing)
    assert "synk migrate" in str(failing)


# -- one that fails stops no other ----------------------------------------------------------------


class Refusing(ModelStorage):
    """Refuses what has to do with one schedule."""

    error: Exception = StorageError("refused")

    def declare_schedule(self, definition: Definition) -> bool | None:
        if definition.name == "refused":
            raise self.error
        return super().declare_schedule(definition)

    def take_ticks(self, swap: TickSwap) -> Taken | None:
        if swap.name == "bad":
            raise self.error
        return super().take_ticks(swap)


@pytest.mark.parametrize(
    "error", [StorageError("a trigger of yours"), InvalidJob("job", 1, "a rule of yours")]
)
def test_what_the_storage_refuses_of_one_stops_no_other(error: Exception) -> None:
    """And it is told once, not at each look."""
    storage = Refusing()
    storage.error = error
    bad, refused = replace(BY_MINUTE, name="bad"), replace(BY_MINUTE, name="refused")
    fleet = Fleet(refused, bad, BY_MINUTE, storage=storage)

    fleet.run(10 * MINUTE)

    assert len(fleet.ticks()) == 10
    assert [fact.schedule for fact in fleet.of(telemetry.ScheduleFailing)] == ["refused", "bad"]


def test_a_row_that_nobody_can_read_stops_no_other_and_ticks_once_it_is_mended() -> None:
    """Written by psql, where no expression is checked."""
    fleet = Fleet(replace(BY_MINUTE, name="bad"), BY_MINUTE)
    fleet.run(dt.timedelta(seconds=1))
    kept = fleet.storage.kept_schedules["bad"]
    kept.schedule = replace(kept.schedule, cron="0 0 30 2 *", version=77, next_at=None)

    fleet.run(10 * MINUTE)
    assert len(fleet.ticks()) == 10, "those of the other one"
    (failing,) = fleet.of(telemetry.ScheduleFailing)
    assert "never comes" in str(failing)

    kept.schedule = replace(kept.schedule, cron="* * * * *", version=78)
    fleet.run(MINUTE)
    assert len([t for t in fleet.storage.entries.values() if t.row.name == "bad"]) > 0


class Stalling(ModelStorage):
    """The first supervisor's connection breaks in the middle of each of its swaps."""

    stalled: UUID | None = None
    asking: UUID | None = None

    def take_ticks(self, swap: TickSwap) -> Taken | None:
        if self.asking == self.stalled:
            raise StorageUnavailable("no answer")
        return super().take_ticks(swap)


class Asking(PeriodicLoop):
    def __init__(self, storage: Stalling, owner: UUID, declared: Sequence[Definition]) -> None:
        super().__init__(storage, owner, declared, telemetry.Telemetry())
        self._asked = storage

    def step(self, now: float) -> float:
        self._asked.asking = self._owner
        return super().step(now)


def test_a_supervisor_whose_connection_stalls_stops_no_tick() -> None:
    """Of river pull request 1251."""
    storage = Stalling()
    fleet = Fleet(BY_MINUTE, size=3, storage=storage)
    fleet.loops = [Asking(storage, uuid.UUID(int=n + 1), [BY_MINUTE]) for n in range(3)]
    storage.stalled = uuid.UUID(int=1)

    fleet.run(HOUR)

    assert len(fleet.ticks()) == 60


def test_a_look_that_fails_is_made_again() -> None:
    """Of celery issue 6438: the process that ticks has stopped, and nobody notices."""
    storage = ModelStorage()
    fleet = Fleet(BY_MINUTE, storage=storage)
    fleet.run(MINUTE)
    look = storage.due_schedules

    def fail(limit: int) -> DueSchedules:
        raise StorageUnavailable("away")

    storage.due_schedules = fail
    fleet.run(3 * MINUTE)
    storage.due_schedules = look
    fleet.run(MINUTE + dt.timedelta(seconds=1))

    assert fleet.ticks()[-1] >= fleet.storage.now - MINUTE
    assert len(fleet.ticks()) + fleet.schedule().skipped == 5
    assert [type(fact) for fact in fleet.heard if "Storage" in type(fact).__name__] == [
        telemetry.StorageFailing,
        telemetry.StorageRecovered,
    ]


def test_a_supervisor_that_ends_declares_nothing_any_more() -> None:
    fleet = Fleet(BY_MINUTE)
    fleet.start()
    fleet.run(MINUTE)
    status: ClientStatus = replace(status_of(uuid.UUID(int=1)), stopped=True)
    fleet.storage.report_client(status)

    (schedule,) = fleet.storage.schedules()
    assert schedule.undeclared
