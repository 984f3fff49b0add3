"""What is asked of a storage for periodic jobs.

Not part of the contract in `synk.storage.base`: a client with periodic jobs is refused a storage
without it.

A tick is taken by a swap: whoever finds it due computes what is to be done, and offers that with
the version and the next tick that it has computed with. If these still hold, the ticks' jobs are
inserted and the schedule moves on, in one transaction; if not, somebody else was quicker, or the
schedule was changed or paused. Nobody holds anything between the question and the swap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from uuid import UUID

    from synk.periodic import Definition, Schedule
    from synk.row import Change


@dataclass(frozen=True, slots=True)
class DueSchedules:
    """A look at what is due.

    Attributes:
        now: when it was, by the storage's clock.
        wake_at: the first tick that is not due; None: there is none.
        schedules: those with a tick that is due, or whose next one has yet to be computed.
    """

    now: dt.datetime
    wake_at: dt.datetime | None
    schedules: Sequence[Schedule]


@dataclass(frozen=True, slots=True, kw_only=True)
class TickSwap:
    """What is to be done about the due ticks of a schedule.

    Attributes:
        name: the schedule.
        version: with what version of it this was computed.
        was: with what next tick; None: with none.
        next_at: the next one from now on.
        ticks: those that become jobs, in order.
        delays: of each, by how much its job comes later.
        skipped: how many ticks become none.
    """

    name: str
    version: int
    was: dt.datetime | None
    next_at: dt.datetime
    ticks: Sequence[dt.datetime] = ()
    delays: Sequence[dt.timedelta] = ()
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """What a swap did.

    Attributes:
        job_ids: the jobs of its ticks, in order; one that was there before is not among them.
        busy_with: the job that was not over, for which no tick became a job; None: there was none.
    """

    job_ids: Sequence[int]
    busy_with: int | None


@runtime_checkable
class Scheduling(Protocol):
    """Schedules, and their ticks.

    Each method is one transaction, and raises what those of `Storage` do.
    """

    def declare_schedule(self, definition: Definition) -> bool | None:
        """Stores a *definition* if it says something else than what was declared before.

        Returns whether it is new; None if nothing was changed. Where its expression is another one,
        its ticks count from now on. Whether it is paused stays as it is. Safe to repeat.

        Raises:
            InvalidJob: the storage refuses a value.
        """
        ...

    def note_declared(self, owner: UUID, names: Sequence[str]) -> None:
        """Notes that the supervisor *owner* declares the schedules of these *names*.

        Safe to repeat.
        """
        ...

    def due_schedules(self, limit: int) -> DueSchedules:
        """Returns what is due now, at most *limit* of it; what is paused never is."""
        ...

    def take_ticks(self, swap: TickSwap) -> Taken | None:
        """Does what *swap* says, once; None if the schedule is not as it was, or paused, or locked.

        Where jobs must not overlap and the last one is not over, the ticks are counted as skipped.
        Each job has the tick's key (`key_of`): one that has it already is that tick's job.
        """
        ...

    def schedules(self) -> list[Schedule]:
        """Returns all schedules, by name."""
        ...

    def pause_schedule(self, name: str) -> Change:
        """Pauses *name*: once this is committed nobody takes a tick of it.

        Refused if it is paused.
        """
        ...

    def resume_schedule(self, name: str) -> Change:
        """Resumes *name*: its ticks count from now on; refused if it is not paused."""
        ...

    def remove_schedule(self, name: str) -> Change:
        """Removes *name*; the jobs that it has made stay."""
        ...

    def run_schedule(self, name: str) -> int | None:
        """Makes a job of *name* now, also if it is paused or a job of it is not over.

        Returns its id; None if there is no such schedule.
        """
        ...
