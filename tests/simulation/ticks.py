"""What is promised of periodic jobs: each tick is one job or one skip that was counted."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from typing import Final

from support.model import Entry
from support.model_periodic import ModelSchedule
from synk.periodic import Definition, Schedule
from synk.tick_key import key_of

_SECOND: Final = dt.timedelta(seconds=1)


def _every(name: str, seconds: float, kind: str, *, missed: str, overlap: str) -> Definition:
    return Definition(
        name=name, cron=None, every=seconds * _SECOND, tz="UTC", kind=kind, args="{}",
        queue="default", priority=3, max_attempts=2, tags=(), meta=None, start_within=None,
        keep=None, missed=missed, max_late=None, jitter=_SECOND, overlap=overlap,
    )  # fmt: skip


def declared(kind: str) -> list[tuple[Definition, ...]]:
    """What two versions of the code declare."""
    often = [_every("often", n, kind, missed="one", overlap="allow") for n in (3, 4)]
    alone = _every("alone", 5, kind, missed="one", overlap="skip")
    all_of_them = _every("all", 25, kind, missed="all", overlap="allow")
    return [(each, alone, all_of_them) for each in often]


class Ticks:
    """Watches the schedules of a storage."""

    def __init__(self) -> None:
        self._seen: dict[str, Schedule] = {}
        self.counts: Counter[str] = Counter()

    def forget(self) -> None:
        """Another storage takes the place of this one."""
        self._seen = {}

    def look(self, schedules: dict[str, ModelSchedule], entries: Mapping[int, Entry]) -> None:
        for name, kept in schedules.items():
            before, now = self._seen.get(name), kept.schedule
            self._seen[name] = now
            if before is not None and before is not now:
                keys = {entry.row.idempotency_key for entry in entries.values()}
                self._check(before, now, keys)

    def _check(self, before: Schedule, now: Schedule, keys: set[str | None]) -> None:
        runs, skipped = now.runs - before.runs, now.skipped - before.skipped
        if now.version != before.version:
            assert (runs, skipped) == (0, 0), f"a change of {now.name} has made jobs"
            self.counts["schedules changed"] += 1
            return
        assert before.paused_at is None, f"a tick of {now.name} was taken while it was paused"
        first = before.first_tick()
        assert now.next_at is not None
        assert now.every is not None
        ticks, rest = divmod(now.next_at - first, now.every)
        assert not rest, f"{now.name} ticks at {now.next_at}"
        # Where the clock was set back before a change, ticks come again that have a job already.
        known = sum(key_of(now.name, first + n * now.every) in keys for n in range(ticks)) - runs
        assert known >= 0, f"{now.name} has jobs of no tick"
        assert ticks - known <= runs + skipped <= ticks, (
            f"{now.name}: {ticks} ticks from {first} to {now.next_at} are {runs} jobs and "
            f"{skipped} skips; {known} were jobs before"
        )
        self.counts["ticks taken"] += runs
        self.counts["ticks skipped"] += skipped
