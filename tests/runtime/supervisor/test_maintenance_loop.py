"""However much there is to clean or to make available, nothing else waits for all of it."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest

from support.model import ModelStorage
from synk import telemetry
from synk.claim import Fence
from synk.config import CleanerConfig
from synk.errors import StorageConflict
from synk.row import JobState
from synk.runtime.supervisor.batch_size import BATCH_S, BatchSize
from synk.runtime.supervisor.maintenance_loop import CLEAN_JOBS, MaintenanceLoop
from synk.status import UnknownKind
from synk.storage.base import Storage
from synk.storage.postgres import PostgresStorage
from synk.testing.making import AN_HOUR, insert, status_of

OWNER = uuid.UUID(int=1)


class Endless(ModelStorage):
    """There is always more to remove and to make available; each row takes its time."""

    def __init__(self, row_s: float) -> None:
        super().__init__()
        self.seconds = 0.0
        self.asked: list[tuple[str, float]] = []
        self._row_s = row_s

    def _took(self, what: str, count: int = 0) -> None:
        self.seconds += 0.01 + count * self._row_s
        self.asked.append((what, self.seconds))

    def stage(self, limit: int) -> int:
        self._took("stage", limit)
        return limit

    def cleaner(self, state: JobState, retention: dt.timedelta, *, limit: int) -> int:
        self._took("clean", limit)
        return limit

    def cancel_requests(self, owner: UUID) -> list[Fence]:
        self._took("cancel")
        return []

    def dead_owners(self) -> list[UUID]:
        self._took("rescue")
        return []


def loop_on(
    storage: Storage,
    subscriber: Callable[[telemetry.Fact], None] = lambda _: None,
    clock: Callable[[], float] = lambda: 0.0,
) -> MaintenanceLoop:
    engine: Any = None
    facts = telemetry.Telemetry()
    facts.subscribe(subscriber)
    return MaintenanceLoop(
        storage,
        engine,
        OWNER,
        facts,
        lease_ttl_s=1.0,
        queues=["default"],
        cleaner=CleanerConfig(),
        on_staged=lambda: None,
        clock=clock,
    )


@pytest.mark.parametrize("row_s", [0.0, 0.0001, 0.001, 0.004])
def test_nothing_waits_while_very_many_jobs_are_cleaned_and_become_due(row_s: float) -> None:
    """Neither for many rows nor for slow ones."""
    storage = Endless(row_s)
    loop = loop_on(storage, clock=lambda: storage.seconds)
    storage.seconds = 60.0

    for _ in range(50):
        assert loop.step(storage.seconds) == 0.0, "there is more to do at once"

    for what in ("stage", "clean", "cancel", "rescue"):
        times = [at for asked, at in storage.asked if asked == what]
        gaps = [later - at for at, later in itertools.pairwise(times)]
        assert max(gaps) <= 1.0, what


def sizes(seconds: Callable[[int], float], batches: int = 60) -> list[int]:
    """The sizes of batches that take so long."""
    pace, found = BatchSize(CLEAN_JOBS), list[int]()
    for _ in range(batches):
        found.append(pace.size)
        assert pace.took(seconds(pace.size), pace.size)
    return found


@pytest.mark.parametrize("row_s", [0.0001, 0.001, 0.01, 0.1])
def test_batches_are_as_large_as_what_is_done_in_a_moment(row_s: float) -> None:
    """Whatever the rows take, once that is known."""
    settled = sizes(lambda size: size * row_s)[10:]

    assert max(settled) * row_s <= 2 * BATCH_S
    assert min(settled) * row_s >= BATCH_S / 4


def test_batches_grow_to_the_largest_where_rows_take_no_time() -> None:
    assert max(sizes(lambda size: 0.001)) == CLEAN_JOBS


def test_batches_do_not_shrink_where_the_time_goes_into_finding_the_first_row() -> None:
    """As behind a million rows that an open transaction keeps from being vacuumed."""
    assert min(sizes(lambda size: 0.5)[20:]) >= CLEAN_JOBS / 2


def test_a_batch_that_finds_little_says_nothing_of_its_size() -> None:
    pace = BatchSize(CLEAN_JOBS)

    assert not any(pace.took(5.0, pace.size - 1) for _ in range(9))
    assert pace.size == BatchSize(CLEAN_JOBS).size


class GivesUp(Endless):
    """On a batch of more than ten, as a server does at its time limit."""

    def cleaner(self, state: JobState, retention: dt.timedelta, *, limit: int) -> int:
        if limit > 10:
            raise StorageConflict("statement timeout")
        return super().cleaner(state, retention, limit=limit)


def test_a_batch_that_the_storage_gives_up_on_is_repeated_with_fewer_jobs() -> None:
    storage = GivesUp(0.01)
    loop = loop_on(storage)

    storage.seconds = 60.0
    while not any(what == "clean" for what, _ in storage.asked):
        storage.seconds += loop.step(storage.seconds)


def test_a_kind_that_nobody_knows_is_told_once(storage: PostgresStorage) -> None:
    told = list[telemetry.Fact]()
    storage.register_client(status_of(OWNER, kinds=("known",)), AN_HOUR)
    loop = loop_on(storage, told.append)
    for kind in ("x", "known", "x", "y"):
        insert(storage, kind=kind)

    for minute in range(20):
        loop.step(60.0 * minute)
        insert(storage, kind="x")

    assert [str(fact).partition(";")[0] for fact in told] == [
        "no supervisor knows kind x in queue default: 2 jobs since job 1",
        "no supervisor knows kind y in queue default: 1 job since job 4",
    ]


def test_a_look_for_unknown_kinds_that_takes_long_comes_rarely(dsn: str) -> None:
    class Slow(PostgresStorage):
        seconds = looks = 0

        def unknown_kinds(self, queues: Sequence[str] | None = None) -> list[UnknownKind]:
            self.looks += 1
            self.seconds += 1
            return []

    storage = Slow(dsn)
    loop = loop_on(storage, clock=lambda: storage.seconds)

    for _ in range(300):
        storage.seconds += 10
        loop.step(storage.seconds)
    storage.close()

    assert 5 < storage.looks < 50
