"""The loop that makes jobs of the ticks of periodic jobs.

Every supervisor does it, and there is no leader: whoever is there when a tick is due computes what
is to be done, and the storage does it for the first who offers that. Whoever loses has done none.

The time is the storage's alone. A look brings the first tick that is not due, and this machine's
clock is asked only how long it takes until then; it looks again after a while all the same, since
that clock may stand still and the storage's may be set. Where there are no schedules it rests until
it hears of some.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.errors import (
    ConfigurationError,
    InvalidJob,
    SchemaMismatch,
    StorageConflict,
    StorageError,
    StorageUnavailable,
    SynkError,
)
from synk.runtime.supervisor.backoff import Backoff
from synk.runtime.supervisor.jitter import jittered
from synk.storage.scheduling import Scheduling, TickSwap
from synk.storage.settings import RuntimeSettings
from synk.ticks import Plan, delay

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from uuid import UUID

    from synk.periodic import Definition, Schedule
    from synk.storage.base import Storage
    from synk.storage.scheduling import Taken
    from synk.telemetry import Telemetry

LOOK_S: Final = 10.0
"""The longest pause while there are schedules."""

SPREAD_S: Final = 0.05
"""After a tick: most of a fleet finds it done."""

AGAIN_S: Final = 0.2
"""Until the next look where somebody else was at a schedule."""

SCHEDULES: Final = 100
"""In one look."""


class PeriodicLoop:
    """Declares schedules once, and takes ticks.

    Args:
        storage: where the schedules are, if it keeps any.
        owner: the supervisor's id.
        declared: what its code says.
        facts: hears what became of ticks.
    """

    def __init__(
        self, storage: Storage, owner: UUID, declared: Sequence[Definition], facts: Telemetry
    ) -> None:
        self._storage = storage if isinstance(storage, Scheduling) else None
        self._is_told_of_changes = isinstance(storage, RuntimeSettings)
        self._owner = owner
        self._to_declare = list(declared)
        self._names: list[str] = []
        """Of those that are declared, and not noted as such."""
        self._facts = facts
        self._told: dict[str, tuple[int, str]] = {}
        """Of each that fails: in which version, and why."""
        self.backoff = Backoff("periodic jobs", facts)

    def step(self, now: float) -> float:
        """Does what is due; returns the seconds until the next step."""
        if self._storage is None:
            return math.inf
        try:
            self._declare(self._storage)
            pause_s = self._look(self._storage)
        except SchemaMismatch as error:
            if not self._to_declare:
                # A schema of before, in which nobody has any.
                return jittered(6 * LOOK_S, 0.2)
            return self.backoff.failed(error, now)
        except SynkError as error:
            return self.backoff.failed(error, now)
        self.backoff.succeeded(now)
        return pause_s

    # -- declaring --------------------------------------------------------------------------------

    def _declare(self, storage: Scheduling) -> None:
        while self._to_declare:
            definition = self._to_declare[0]
            try:
                is_new = storage.declare_schedule(definition)
            except (StorageError, InvalidJob) as error:
                if _is_of_storage(error):
                    raise
                self._fail(definition.name, -1, str(error))
            else:
                self._names.append(definition.name)
                if is_new is not None:
                    ticks = f"{definition.cron} {definition.tz}"
                    if definition.every is not None:
                        ticks = f"every {definition.every}"
                    self._facts.emit(
                        telemetry.ScheduleDeclared(definition.name, is_new=is_new, ticks=ticks)
                    )
            self._to_declare.pop(0)
        if self._names:
            storage.note_declared(self._owner, self._names)
            self._names = []

    def _fail(self, name: str, version: int, problem: str) -> None:
        """Tells once that nothing can be done about a schedule."""
        if self._told.get(name) != (version, problem):
            self._told[name] = (version, problem)
            self._facts.emit(telemetry.ScheduleFailing(name, problem))

    # -- ticks ------------------------------------------------------------------------------------

    def _look(self, storage: Scheduling) -> float:
        """Takes the ticks that are due; returns the seconds until the next look."""
        look = storage.due_schedules(SCHEDULES)
        waits = [] if look.wake_at is None else [look.wake_at]
        is_lost = False
        for schedule in look.schedules:
            try:
                next_at = self._take(storage, schedule, look.now)
            except (ConfigurationError, StorageError, InvalidJob) as error:
                if _is_of_storage(error):
                    raise
                self._fail(schedule.name, schedule.version, str(error))
                continue
            if next_at is None:
                is_lost = True
            else:
                waits.append(next_at)
        if len(look.schedules) == SCHEDULES and not self._told:
            return 0.0
        if not waits and not look.schedules and self._is_told_of_changes:
            return math.inf
        longest_s = jittered(AGAIN_S, 0.5) if is_lost else LOOK_S
        until_s = min((wait - look.now).total_seconds() for wait in waits) if waits else LOOK_S
        return max(0.0, min(until_s + jittered(SPREAD_S, 1.0), longest_s))

    def _take(
        self, storage: Scheduling, schedule: Schedule, now: dt.datetime
    ) -> dt.datetime | None:
        """Takes what is due of one; returns its next tick, or None if somebody else was quicker.

        Raises:
            ConfigurationError: nobody can say when it ticks.
        """
        ticking = schedule.ticking(schedule.since)
        first = schedule.first_tick()
        # It may only have to be computed.
        plan = Plan((), first) if first > now else schedule.rules.plan(ticking, first, now)
        taken = storage.take_ticks(
            TickSwap(
                name=schedule.name,
                version=schedule.version,
                was=schedule.next_at,
                next_at=plan.next_at,
                ticks=plan.run,
                delays=[delay(schedule.name, tick, schedule.jitter) for tick in plan.run],
                skipped=plan.skipped,
            )
        )
        if taken is None:
            return None
        self._told.pop(schedule.name, None)
        self._tell(schedule.name, plan, taken)
        return plan.next_at

    def _tell(self, name: str, plan: Plan, taken: Taken) -> None:
        if plan.first_skipped is not None and plan.last_skipped is not None:
            self._facts.emit(
                telemetry.TicksSkipped(
                    name, plan.skipped, plan.first_skipped, plan.last_skipped, plan.reason
                )
            )
        if not plan.run:
            return
        if taken.busy_with is not None:
            reason = f"job {taken.busy_with} is not over"
            self._facts.emit(
                telemetry.TicksSkipped(name, len(plan.run), plan.run[0], plan.run[-1], reason)
            )
        else:
            self._facts.emit(telemetry.TicksTaken(name, plan.run, tuple(taken.job_ids)))


def _is_of_storage(error: Exception) -> bool:
    """Whether it says something of the storage, and not of one schedule."""
    return isinstance(error, (StorageUnavailable, StorageConflict, SchemaMismatch))
