"""Schedules in the model of the storage: see `synk.storage.scheduling`."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from synk.insertion import JobOptions, NewJob
from synk.periodic import Definition, Schedule
from synk.row import Change, JobRow, Priority
from synk.storage.scheduling import DueSchedules, Taken, TickSwap
from synk.tick_key import key_of

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class ModelSchedule:
    schedule: Schedule
    hash: str | None
    declared_by: set[UUID] = field(default_factory=set)


class ModelSchedules:
    """The part of `ModelStorage` that keeps schedules."""

    now: dt.datetime
    _entries: dict[int, Any]
    _leases: dict[UUID, Any]
    _listeners: list[tuple[UUID, Any]]
    _revision: int
    _schedules: dict[str, ModelSchedule]

    def _call(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def _insert(self, job: NewJob) -> int:
        raise NotImplementedError

    def _of_key(self, key: str | None) -> JobRow | None:
        raise NotImplementedError

    def declare_schedule(self, definition: Definition) -> bool | None:
        with self._call():
            kept = self._schedules.get(definition.name)
            if kept is not None and kept.hash == definition.hash:
                return None
            said: dict[str, Any] = {**asdict(definition), "tags": tuple(definition.tags)}
            if kept is None:
                self._schedules[definition.name] = ModelSchedule(
                    Schedule(
                        **said, version=0, since=self.now, next_at=None, last_at=None,
                        last_job_id=None, runs=0, skipped=0, paused_at=None,
                    ),
                    definition.hash,
                )  # fmt: skip
                self._schedule_changed(definition.name, counts_anew=True)
                return True
            was = kept.schedule
            kept.schedule, kept.hash = replace(was, **said), definition.hash
            ticking = (was.cron, was.every, was.tz)
            is_new = ticking != (definition.cron, definition.every, definition.tz)
            self._schedule_changed(definition.name, counts_anew=is_new)
            return False

    def _schedule_changed(self, name: str, *, counts_anew: bool) -> None:
        kept = self._schedules[name]
        self._revision += 1
        kept.schedule = replace(kept.schedule, version=self._revision)
        if counts_anew:
            since = self.now.replace(microsecond=0)
            kept.schedule = replace(kept.schedule, since=since, next_at=None)
        for _, listener in self._listeners:
            listener.announce_settings()

    def note_declared(self, owner: UUID, names: Sequence[str]) -> None:
        with self._call():
            for name in names:
                if name in self._schedules:
                    declared_by = self._schedules[name].declared_by
                    declared_by.intersection_update(self._leases)
                    declared_by.add(owner)

    def due_schedules(self, limit: int) -> DueSchedules:
        with self._call():
            found = [each.schedule for each in self._schedules.values()]
            awake = [each for each in found if each.paused_at is None]
            due = [each for each in awake if each.next_at is None or each.next_at <= self.now]
            waits = [each.next_at for each in awake if each.next_at and each.next_at > self.now]
            return DueSchedules(self.now, min(waits, default=None), due[:limit])

    def take_ticks(self, swap: TickSwap) -> Taken | None:
        with self._call():
            kept = self._schedules.get(swap.name)
            if kept is None or kept.schedule.paused_at is not None:
                return None
            schedule = kept.schedule
            if (schedule.version, schedule.next_at) != (swap.version, swap.was):
                return None
            busy_with = self._unfinished(schedule) if schedule.overlap == "skip" else None
            job_ids: list[int] = []
            if busy_with is None:
                for tick, delay in zip(swap.ticks, swap.delays, strict=True):
                    key = key_of(swap.name, tick)
                    if self._of_key(key) is None:
                        due = max(tick + delay, self.now)
                        job_ids.append(self._insert(_job_of(schedule, key, due)))
            is_done = bool(swap.ticks) and busy_with is None
            kept.schedule = replace(
                schedule,
                next_at=swap.next_at,
                last_at=swap.ticks[-1] if is_done else schedule.last_at,
                last_job_id=job_ids[-1] if job_ids else schedule.last_job_id,
                runs=schedule.runs + len(job_ids),
                skipped=schedule.skipped + swap.skipped + (len(swap.ticks) if busy_with else 0),
            )
            return Taken(job_ids, busy_with)

    def _unfinished(self, schedule: Schedule) -> int | None:
        entry = self._entries.get(schedule.last_job_id or 0)
        return None if entry is None or entry.row.state.is_final else entry.row.id

    def schedules(self) -> list[Schedule]:
        with self._call():
            return [
                replace(
                    each.schedule,
                    undeclared=bool(each.declared_by and self._leases)
                    and not each.declared_by & self._leases.keys(),
                )
                for _, each in sorted(self._schedules.items())
            ]

    def pause_schedule(self, name: str) -> Change:
        with self._call():
            return self._set_paused(name, self.now)

    def resume_schedule(self, name: str) -> Change:
        with self._call():
            return self._set_paused(name, None)

    def _set_paused(self, name: str, paused_at: dt.datetime | None) -> Change:
        kept = self._schedules.get(name)
        if kept is None:
            return Change.GONE
        if (kept.schedule.paused_at is None) == (paused_at is None):
            return Change.REFUSED
        kept.schedule = replace(kept.schedule, paused_at=paused_at)
        self._schedule_changed(name, counts_anew=paused_at is None)
        return Change.APPLIED

    def remove_schedule(self, name: str) -> Change:
        with self._call():
            return Change.APPLIED if self._schedules.pop(name, None) else Change.GONE

    def run_schedule(self, name: str) -> int | None:
        with self._call():
            kept = self._schedules.get(name)
            if kept is None:
                return None
            schedule = kept.schedule
            job_id = self._insert(_job_of(schedule, key_of(name, self.now), self.now))
            kept.schedule = replace(schedule, last_job_id=job_id, runs=schedule.runs + 1)
            return job_id


def _job_of(schedule: Schedule, key: str, due: dt.datetime) -> NewJob:
    options = JobOptions(
        scheduled_at=due,
        priority=Priority(schedule.priority),
        queue=schedule.queue,
        max_retries=schedule.max_attempts - 1,
        tags=schedule.tags,
        meta=None if schedule.meta is None else json.loads(schedule.meta),
        start_before=due + schedule.start_within if schedule.start_within else None,
        keep=schedule.keep,
        idempotency_key=key,
    )
    return NewJob(name=schedule.name, kind=schedule.kind, args=schedule.args, options=options)
