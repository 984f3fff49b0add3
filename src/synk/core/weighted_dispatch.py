"""When jobs that weigh something begin, what is claimed of them, and when lighter ones stop.

Such a job goes to an idle worker once its weight is there, alone: nothing waits behind it, and it
waits behind nothing, so that no share of the budget is held by what does not run. One that does not
fit waits beside the others of its supervisor and stands in nobody's way; of a kind that does not
fit nothing is claimed, so that other supervisors may.

That would starve the heavy ones beside a stream of light ones, which always fit. So a kind that was
passed over in a queue for `PATIENCE_S` is looked for, and its next job has a reservation: no other
job with a weight begins before it, unless it is more urgent, and no job without one where that is
all that it waits for. Where it waits for other weighted ones, those without a weight go on, and the
job itself goes back to the storage meanwhile: another supervisor may have room at once.

A job that needs no more than what one worker frees waits for its turn only: the next one that is
nearly done is kept for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from synk.core.backlog import HELD_S, order_of
from synk.core.dispatch import ANY_PRIORITY, Dispatch, WeightedDemand, moves, slots_using
from synk.core.messages import Send
from synk.core.weights import job_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from synk.claim import ClaimedJob
    from synk.core.backlog import Backlog
    from synk.core.estimates import Estimates
    from synk.core.limits import QueueLimits
    from synk.core.slot import Slot
    from synk.core.weights import Budget, Load

PATIENCE_S: Final = 5.0
"""How long others may begin while one of a kind could not, before it has a reservation."""

Line: TypeAlias = tuple[str, str]
"""A queue and a kind."""


@dataclass(slots=True)
class _Passed:
    """Others have begun while jobs of a line could not."""

    since: float
    priority: int | None = None
    """Of one that went back to the storage: it is known to be there."""


@dataclass(frozen=True, slots=True)
class _Reservation:
    line: Line
    priority: int
    job: ClaimedJob | None
    """None: it is in the storage."""


class WeightedDispatch(Dispatch):
    """Gives jobs with a weight to idle workers, and others what is left.

    Args:
        slots: all of them.
        queues: how many workers each may have.
        backlog: the jobs with a weight wait in its `aside`.
        estimates: how long jobs take.
        budget: what there is.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        queues: Mapping[str, QueueLimits],
        backlog: Backlog,
        estimates: Estimates,
        budget: Budget,
    ) -> None:
        super().__init__(slots, queues, backlog, estimates)
        self.budget = budget
        self._lines = [(queue, kind) for queue in queues for kind in budget.weights]
        self._passed: dict[Line, _Passed] = {}
        self._here_since: dict[int, float] = {}
        """Of the jobs that wait, by their ids."""
        self._cpus: dict[int, tuple[int, ...]] = {}
        """Slot -> those of the job that it was given last."""
        self._now = 0.0
        self._times: list[float] = []
        """When something is due, if nothing happens before."""

    # -- giving out -------------------------------------------------------------------------------

    def give_out(self, serving: list[Slot], now: float) -> tuple[list[Send], list[Slot]]:
        """Gives the workers of *serving* what waits; returns also those to be recalled for it.

        Jobs with a weight begin first if it is their turn, and last if there is room left.
        """
        sends = self.begin(serving, now)
        former, self.above = self.above, self._held_above(now)
        recalled: list[Slot] = []
        if self.above < former:
            # What waits at a worker would begin before the one that has a reservation.
            recalled = [slot for slot in serving if len(slot.in_flight) > 1]
            serving = [slot for slot in serving if slot not in recalled]
        more, full = super().give_out(self.open_to_plain(serving), now)
        sends += more
        sends += self.begin(serving, now, whoever=True)
        if sends:
            self.others_began(sends, now)
        self.open = self.open_to_plain(serving)
        return sends, recalled + full

    def begin(self, serving: Iterable[Slot], now: float, *, whoever: bool = False) -> list[Send]:
        """Gives idle workers the jobs that fit and whose turn it is; *whoever*: all that fit."""
        idle = [slot for slot in serving if not slot.in_flight and slot.places > 0]
        sends: list[Send] = []
        for job in self._in_turn():
            if not idle:
                break
            reserved = self._reserved(now)
            if self._may_begin(job, reserved) and (
                whoever or (reserved and reserved.job is job) or self._is_its_turn(job)
            ):
                sends.append(self._give(idle.pop(0), job, now))
        return sends

    def _in_turn(self) -> list[ClaimedJob]:
        """Returns the jobs that wait, those first whose queue has used least."""
        queues = self._backlog.queues
        return sorted(
            self._backlog.aside, key=lambda job: (queues[job.queue].used_s, order_of(job))
        )

    def _may_begin(self, job: ClaimedJob, reserved: _Reservation | None) -> bool:
        if reserved is not None and reserved.job is not job and job.priority >= reserved.priority:
            return False
        load = self.budget.load_of(job.kind)
        return self.budget.fits(load, self._load()) and self._has_place(job.queue)

    def _is_its_turn(self, job: ClaimedJob) -> bool:
        """Whether none of the jobs without a weight that wait is to begin before."""
        backlog = self._backlog
        head = backlog.queues[job.queue].peek()
        if head is not None and order_of(head) < order_of(job):
            return False
        used_s = backlog.queues[job.queue].used_s
        return all(not each.count or used_s <= each.used_s for each in backlog.queues.values())

    def _give(self, slot: Slot, job: ClaimedJob, now: float) -> Send:
        taken = [
            self._cpus.get(each.number, ()) for each in self._slots if self.budget.is_weighted(each)
        ]
        cpus = self.budget.cpus_for(job.kind, self._queues[job.queue].cpus, taken)
        self._passed.pop((job.queue, job.kind), None)
        expected_s = self._estimates.expected_s(job.kind)
        self._backlog.take_aside(job, expected_s)
        first, number = slot.sent + 1, slot.number
        if self._keyed:
            self._keyed.gave(number, [job], now)
        slot.gave([job], expected_s, now)
        self._cpus[number] = cpus
        return Send(number, first, [job], cpus)

    def _has_place(self, queue: str) -> bool:
        if queue in self.paused:
            return False
        return slots_using(self._slots, queue) < self._queues[queue].max_workers

    def _load(self) -> Load:
        return self.budget.load_on(self._slots)

    # -- what is left for the others --------------------------------------------------------------

    def _held_above(self, now: float) -> int:
        """Returns of which priority a job without a weight must be more urgent to begin."""
        reserved = self._reserved(now)
        if reserved is None or reserved.job is None or not self._fits_without_plain(reserved.line):
            return ANY_PRIORITY
        return reserved.priority

    def open_to_plain(self, serving: Iterable[Slot]) -> list[Slot]:
        """Returns the workers that jobs without a weight may go to."""
        serving = list(serving)
        weighted = [slot for slot in self._slots if self.budget.is_weighted(slot)]
        if not weighted and not self._backlog.aside:
            return serving
        busy = [slot for slot in serving if slot.in_flight and slot not in weighted]
        idle = [slot for slot in serving if not slot.in_flight]
        more = self.budget.room(self.budget.plain, self._load())
        if not idle:
            # One that is nearly done is kept for each that needs no more than that.
            busy.sort(key=lambda slot: (len(slot.in_flight), slot.backlog_s))
            del busy[: self._count_kept([slot for slot in busy if moves(slot)])]
        return busy + idle[: max(0, more)]

    def _count_kept(self, moving: Sequence[Slot]) -> int:
        beside, kept = self._load(), 0
        reserved = self._reserved(self._now)
        for job in self._in_turn():
            load = self.budget.load_of(job.kind)
            if (
                kept < len(moving)
                and self.budget.fits(load, beside - self.budget.plain)
                and (reserved is None or reserved.job is job)
                and self._has_place(job.queue)
                and self._is_its_turn(job)
            ):
                kept += 1
                beside = beside - self.budget.plain + load
        return kept

    # -- who was passed over ----------------------------------------------------------------------

    def others_began(self, sends: Iterable[Send], now: float) -> None:
        """These were given to workers: who is heavier and waits, or could not, was passed over."""
        if len(self._passed) == len(self._lines):
            return
        kinds = {job.kind for send in sends for job in send.jobs}
        load = self._load()
        is_idle = any(not slot.in_flight and slot.places > 0 for slot in self._slots)
        for line in self._lines:
            if line in self._passed or not self._has_place(line[0]):
                continue
            fits = is_idle and self.budget.fits(self.budget.load_of(line[1]), load)
            waits = not fits or self._first_of(line) is not None
            if waits and any(self.budget.is_lighter(kind, line[1]) for kind in kinds):
                self._passed[line] = _Passed(now)

    def found_none(self, lines: Iterable[Line]) -> None:
        """The storage has no job of these that may be claimed."""
        for line in lines:
            if self._first_of(line) is None:
                self._passed.pop(line, None)

    def _reserved(self, now: float) -> _Reservation | None:
        """Returns who was passed over for too long, and is known to be there; the first of them."""
        found: tuple[float, _Reservation] | None = None
        for line, passed in self._passed.items():
            if now < passed.since + PATIENCE_S or not self._has_place(line[0]):
                continue
            job = self._first_of(line)
            priority = passed.priority if job is None else job.priority
            if priority is not None and (found is None or passed.since < found[0]):
                found = passed.since, _Reservation(line, priority, job)
        return None if found is None else found[1]

    def _first_of(self, line: Line) -> ClaimedJob | None:
        found = (job for job in self._backlog.aside if (job.queue, job.kind) == line)
        return next(found, None)

    def _fits_without_plain(self, line: Line) -> bool:
        weighted = [slot for slot in self._slots if self.budget.is_weighted(slot)]
        return self.budget.fits(self.budget.load_of(line[1]), self.budget.load_on(weighted))

    def stuck(self, now: float) -> list[ClaimedJob]:
        """Takes out and returns the jobs that no worker takes: they go back to the storage.

        Of those with a weight only one that has a reservation may stay for longer, and not where it
        waits for others with a weight: these can take hours.
        """
        self._now = now
        reserved = self._reserved(now)
        kept = reserved.job if reserved and self._fits_without_plain(reserved.line) else None
        aside, before = self._backlog.aside, self._here_since
        self._here_since = {job.id: before.get(job.id, now) for job in aside}
        stuck = [
            job
            for job in aside
            if job is not kept
            and now >= self._here_since[job.id] + HELD_S
            and not self._is_soon_reserved(job, now)
        ]
        for job in stuck:
            aside.remove(job)
            del self._here_since[job.id]
            if passed := self._passed.get((job.queue, job.kind)):
                passed.priority = job.priority
        times = [since + HELD_S for since in self._here_since.values()]
        times += [passed.since + PATIENCE_S for passed in self._passed.values()]
        self._times = [time for time in times if time > now]
        return super().stuck(now) + stuck

    def _is_soon_reserved(self, job: ClaimedJob, now: float) -> bool:
        passed = self._passed.get((job.queue, job.kind))
        return passed is not None and now < passed.since + PATIENCE_S

    def stuck_times(self) -> list[float]:
        """Returns when there may be such jobs, or somebody has been passed over for long."""
        return super().stuck_times() + self._times

    # -- how many are wanted ----------------------------------------------------------------------

    def weighted(self) -> dict[str, WeightedDemand]:
        """Returns what is to be claimed of each queue; those of which nothing is are absent."""
        aside = self._backlog.aside
        load = sum((self.budget.load_of(job.kind) for job in aside), self._load())
        idle = sum(not slot.in_flight and slot.places > 0 for slot in self._slots) - len(aside)
        reserved = self._reserved(self._now)
        found: dict[str, WeightedDemand] = {}
        for queue, limits in self._queues.items():
            counts = {
                kind: count
                for kind in self.budget.weights
                if (count := self._wanted((queue, kind), load, idle, reserved)) > 0
            }
            waiting = sum(job.queue == queue for job in aside)
            most = limits.max_workers - slots_using(self._slots, queue) - waiting
            if counts and most > 0 and queue not in self.paused:
                found[queue] = WeightedDemand(min(most, *counts.values()), tuple(counts))
        return found

    def _wanted(self, line: Line, load: Load, idle: int, reserved: _Reservation | None) -> int:
        if reserved is not None and reserved.line != line:
            return 0
        own = self.budget.load_of(line[1])
        if idle > 0 and (room := self.budget.room(own, load)) > 0:
            return min(idle, room)
        if self._first_of(line) is not None:
            return 0
        passed = self._passed.get(line)
        if passed is not None and self._now >= passed.since + PATIENCE_S:
            # To learn whether there is one; and once it can have what it needs.
            return int(passed.priority is None or self._fits_without_plain(line))
        return self._soon(own, load)

    def _soon(self, own: Load, load: Load) -> int:
        """Returns how many of such a weight will have what they need once one job is over."""
        ends = [
            self.budget.load_of(job.kind)
            for slot in self._slots
            if slot.in_flight and moves(slot) and (job := job_on(slot)) is not None
        ]
        return sum(self.budget.fits(own, load - each) for each in ends) - len(self._backlog.aside)
