"""Which worker gets which jobs, and how many are claimed ahead for it.

By urgency, by room, and never behind a job that is stuck. Short jobs are claimed and sent in
batches, long ones one by one. All of it is measured in expected time, so that a job never waits
long behind others while another worker, or another supervisor, could begin it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final

from synk.core.estimates import UNKNOWN_S
from synk.core.messages import Send
from synk.row import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from synk.claim import ClaimedJob
    from synk.core.backlog import Backlog
    from synk.core.estimates import Estimates
    from synk.core.limits import QueueLimits
    from synk.core.slot import Slot

WINDOW_S: Final = 0.1
"""Work that may be at one worker: twice what it does before it says so. What waits there is taken
back for an idle worker, and for jobs that go before it."""

SHARED_WINDOW_S: Final = 0.005
"""The same while jobs of several queues wait: they take turns by what was given to workers."""

WINDOW_JOBS: Final = 512
"""Jobs at one worker at most; the ring on its status page holds twice as many."""

_REFILL: Final = 0.25
"""Of a window is free before more is sent, so that it is not sent job by job."""

PREFETCH_S: Final = 0.1
"""Up to this duration one job may wait at the worker behind the running one. For longer jobs the
turn-around does not matter, and another supervisor might begin the job at once."""

BUFFER_S: Final = 0.2
"""Work that is claimed ahead, to cover a round of claiming. An urgent job does not wait for it, but
another supervisor, which could begin it at once, might."""

BACKLOG_JOBS: Final = 3_000
"""Jobs claimed ahead at most."""

_CLAIM_JOBS_MIN: Final = BACKLOG_JOBS // 4
"""So many are worth a claim, however many more there is room for."""

STEAL_S: Final = 0.002
"""What waits at a busy worker is taken back for an idle one if it is at least this much work."""

OVERTAKE_S: Final = 0.01
"""And for a job that goes before it, if it is this much."""

ANY_PRIORITY: Final = max(Priority) + 1
"""What jobs of any priority are more urgent than."""


@dataclass(frozen=True, slots=True)
class Urgent:
    """What is to be claimed of a queue though enough of its jobs are at hand."""

    count: int
    above: int
    """Only jobs that are more urgent than this priority."""


@dataclass(frozen=True, slots=True)
class WeightedDemand:
    """What is to be claimed of a queue's jobs that weigh something."""

    count: int
    kinds: tuple[str, ...]
    """Those that there is room for."""


def room_for(slot: Slot, expected_s: float, window_s: float) -> int:
    """Returns how many more jobs of *expected_s* each may wait at this worker, if it has places."""
    held = len(slot.in_flight)
    in_time = int((window_s - slot.backlog_s) / expected_s)
    if held == 0 or (held == 1 and slot.in_flight[0].expected_s <= PREFETCH_S):
        return max(1, min(in_time, WINDOW_JOBS - held))
    return 0 if is_full(slot, window_s) else min(in_time, WINDOW_JOBS - held)


def is_full(slot: Slot, window_s: float) -> bool:
    """Whether a worker has nearly all that may be there, and will be sent more at one time."""
    held = len(slot.in_flight)
    return held > 1 and (
        slot.backlog_s > window_s * (1 - _REFILL) or held > WINDOW_JOBS * (1 - _REFILL)
    )


def _waiting_s(slot: Slot) -> float:
    """Returns how much work waits at a worker behind its first job."""
    return slot.backlog_s - slot.in_flight[0].expected_s if len(slot.in_flight) > 1 else 0.0


def _has_behind(slot: Slot, most_urgent: Mapping[str, int]) -> bool:
    """Whether a job waits behind its first one before which others go, by queue and priority."""
    is_of_one = len(most_urgent) == 1
    return any(
        not is_of_one or held.job.priority > most_urgent.get(held.job.queue, 0)
        for held in islice(slot.in_flight, 1, None)
    )


def moves(slot: Slot) -> bool:
    """Whether it takes jobs, and none that it is known to be long at."""
    return slot.places > 0 and (not slot.in_flight or slot.in_flight[0].expected_s < BUFFER_S)


def slots_using(slots: Sequence[Slot], queue: str) -> int:
    """Returns how many workers have jobs of *queue*."""
    return sum(any(held.job.queue == queue for held in slot.in_flight) for slot in slots)


class Dispatch:
    """Gives the jobs of the backlog to workers, and says how many more are wanted."""

    def __init__(
        self,
        slots: Sequence[Slot],
        queues: Mapping[str, QueueLimits],
        backlog: Backlog,
        estimates: Estimates,
    ) -> None:
        self._slots = slots
        self._queues = queues
        self._backlog = backlog
        self._keyed = backlog.keyed
        self._estimates = estimates
        self._window_s = WINDOW_S
        self.open = slots
        """The workers that jobs may go to: all, where no kind weighs anything."""
        self.above = ANY_PRIORITY
        """Only jobs that are more urgent than this priority are given out."""
        self.paused = frozenset[str]()
        """The queues of which nothing is given out."""

    def give_out(self, serving: list[Slot], now: float) -> tuple[list[Send], list[Slot]]:
        """Gives the workers of *serving* what waits; returns also those to be recalled for it."""
        is_short = not self._backlog.count and any(not slot.in_flight for slot in serving)
        is_wanted = serving and (self._backlog.count or self._keyed.are_waiting)
        sends = self.fill(serving, now) if is_wanted else []
        return sends, self.overfull(serving) if is_short else []

    def fill(self, serving: list[Slot], now: float) -> list[Send]:
        """Fills up the workers of *serving*, those with least to do first."""
        self._window_s = SHARED_WINDOW_S
        if not self._backlog.is_of_several:
            self._window_s = WINDOW_S
            serving = [slot for slot in serving if not is_full(slot, WINDOW_S)]
        serving.sort(key=lambda slot: (len(slot.in_flight), slot.backlog_s))
        share = -(-self._backlog.count // max(1, len(serving)))
        kept = Counter[str]()
        sends = (self._fill(slot, share, now, kept) for slot in serving)
        return [send for send in sends if send is not None]

    def _fill(self, slot: Slot, share: int, now: float, kept: Counter[str]) -> Send | None:
        """Gives a worker what it has room for.

        Where it has none for a job whose turn it is, but will soon, it gets none of another queue
        either: *kept* counts the workers that are kept for jobs of each queue.
        """
        first = slot.sent + 1
        jobs: list[ClaimedJob] = []
        most = min(share, slot.places)
        for name, queue in self._backlog.turns():
            if not self._may_use(slot, name):
                continue
            while len(jobs) < most and (job := queue.peek()) is not None:
                if job.priority >= self.above:
                    break
                expected_s = self._estimates.expected_s(job.kind)
                room = min(most - len(jobs), room_for(slot, expected_s, self._window_s))
                if room <= 0:
                    break
                alike = queue.pop_alike(room)
                if self._keyed:
                    self._keyed.gave(slot.number, alike, now)
                slot.gave(alike, expected_s, now)
                jobs += alike
                self._backlog.charge(name, expected_s, len(alike))
            if slot.in_flight and queue.count > kept[name] and moves(slot):
                kept[name] += 1
                break
        if self._keyed.are_waiting:
            jobs += self._follow(slot, now)
        return Send(slot.number, first, jobs) if jobs else None

    def _follow(self, slot: Slot, now: float) -> list[ClaimedJob]:
        """Gives a worker that has jobs of a key more of that key, as far as it has room."""
        jobs: list[ClaimedJob] = []
        for waiting in self._keyed.followers(slot.number):
            first = waiting[0]
            if first.kind in self._backlog.weighted:
                # It goes alone, once its permit is free.
                continue
            expected_s = self._estimates.expected_s(first.kind)
            room = min(slot.places, room_for(slot, expected_s, self._window_s))
            if room <= 0 or not self._may_use(slot, first.queue):
                continue
            alike = list(takewhile(lambda job: job.kind == first.kind, waiting[:room]))  # noqa: B023
            self._keyed.follow(slot.number, alike, now)
            slot.gave(alike, expected_s, now)
            self._backlog.charge(first.queue, expected_s, len(alike))
            jobs += alike
        return jobs

    def _may_use(self, slot: Slot, queue: str) -> bool:
        """Whether one more slot may hold jobs of *queue*: `max_workers` caps those that run."""
        limit = self._queues[queue].max_workers
        if limit >= len(self._slots):
            return True
        # More than the limit, where that was lowered: all of them run dry first.
        is_one_more = not any(held.job.queue == queue for held in slot.in_flight)
        return slots_using(self._slots, queue) + is_one_more <= limit

    def overfull(self, serving: Iterable[Slot]) -> list[Slot]:
        """Returns the workers at which enough waits to be worth taking back for idle ones."""
        full = [slot for slot in serving if _waiting_s(slot) >= STEAL_S]
        return [slot for slot in full if self._movable_s(slot) >= STEAL_S] if self._keyed else full

    def _movable_s(self, slot: Slot) -> float:
        """Returns how much of what waits at a worker another one may have."""
        head, *behind = slot.in_flight
        return sum(held.expected_s for held in behind if self._keyed.may_move(held.job, head.job))

    def overtaken(self, jobs: Sequence[ClaimedJob]) -> list[Slot]:
        """Returns the workers at which much waits that *jobs*, which are new, should go before.

        That is what is less urgent in their queue, and all of other queues: it is given out anew
        then, by whose turn it is.
        """
        if not jobs:
            return []
        most_urgent: dict[str, int] = {}
        for job in jobs:
            most_urgent[job.queue] = min(job.priority, most_urgent.get(job.queue, job.priority))
        return [
            slot
            for slot in self._slots
            if _waiting_s(slot) >= OVERTAKE_S and _has_behind(slot, most_urgent)
        ]

    # -- what waits for too long, and jobs with a weight: see `WeightedDispatch` ------------------

    def stuck(self, now: float) -> list[ClaimedJob]:
        """Takes out and returns the jobs that no worker takes: they go back to the storage."""
        return self._backlog.stuck(now)

    def stuck_times(self) -> list[float]:
        """Returns when there may be such jobs."""
        return self._backlog.stuck_times()

    def weighted(self) -> dict[str, WeightedDemand]:
        """Returns what is to be claimed of each queue of jobs that weigh something: nothing."""
        return {}

    def found_none(self, lines: Iterable[tuple[str, str]]) -> None:
        """The storage has no job of these queues and kinds that may be claimed."""

    # -- how many are wanted ---------------------------------------------------------------------

    def wanted(self, queue: str) -> int:
        """Returns how many jobs of *queue* are to be claimed now; 0 or less: none."""
        if self.above < ANY_PRIORITY:
            return 0
        limits = self._queues[queue]
        slots = min(len(self._slots), limits.max_workers)
        expected_s = self._expected_in(queue)
        at_once = self._room_for_one(queue, slots, expected_s)
        ahead = 0
        if expected_s < BUFFER_S:
            held = self._backlog.queues[queue].count + self._in_flight_of(queue)
            moving = self._moving_for(queue, slots)
            # At least one behind each that runs: without it a worker waits for a claim.
            target = max(2 * moving, min(BACKLOG_JOBS, int(moving * BUFFER_S / expected_s)))
            ahead = target - held
            if ahead < min(target // 2, _CLAIM_JOBS_MIN):
                # Not worth a claim yet: few large claims cost the database less than many small.
                ahead = 0
        return max(at_once, ahead, self._in_its_turn(queue, slots))

    def _in_its_turn(self, queue: str, slots: int) -> int:
        """Returns how many jobs would be next where others are at hand, and none of this queue.

        One for each worker that moves, whatever they take, if their turn comes as soon as that of
        what is claimed ahead.
        """
        if len(self._queues) == 1 or self._backlog.queues[queue].count:
            return 0
        slots = self._moving_for(queue, slots)
        moving = [slot for slot in self.open if moves(slot)]
        others = {name for name, waiting in self._backlog.queues.items() if waiting.count}
        others.update(slot.in_flight[0].job.queue for slot in moving if slot.in_flight)
        if self._backlog.before_the_turn_of(queue, others - {queue}) > slots * BUFFER_S:
            return 0
        return slots - slots_using(moving, queue)

    def urgent(self, queue: str) -> Urgent | None:
        """Returns what would overtake the jobs at hand, one for each worker that moves."""
        waiting = self._backlog.queues[queue]
        least = waiting.least_urgent() if self.above == ANY_PRIORITY else self.above
        if least is None or least == Priority.CRITICAL:
            return None
        slots = min(len(self._slots), self._queues[queue].max_workers)
        count = self._moving_for(queue, slots) - waiting.count_above(least)
        return Urgent(count, least) if count > 0 else None

    def _room_for_one(self, queue: str, slots: int, expected_s: float) -> int:
        room = 0
        for slot in self.open:
            if not slot.places:
                continue
            held = len(slot.in_flight)
            if held == 0 or (
                held == 1 and max(expected_s, slot.in_flight[0].expected_s) <= PREFETCH_S
            ):
                room += 1
        if slots < len(self._slots):
            room = min(room, max(0, slots - slots_using(self._slots, queue)))
        return room - self._backlog.count

    def _moving_for(self, queue: str, slots: int) -> int:
        """Returns how many workers will soon take jobs of *queue*, of the *slots* it may have."""
        moving = [slot for slot in self.open if moves(slot)]
        if slots == len(self._slots):
            return len(moving)
        free = max(0, slots - slots_using(self._slots, queue))
        return min(len(moving), free + slots_using(moving, queue))

    def _expected_in(self, queue: str) -> float:
        """Returns how long the jobs to come are expected to run.

        At least as long as those of late: a short one at hand must not have hundreds of long ones
        claimed, behind which the next urgent one would wait.
        """
        return max(self._expected_at_hand(queue), self._estimates.lately_in(queue))

    def _expected_at_hand(self, queue: str) -> float:
        job = self._backlog.queues[queue].peek()
        if job is not None:
            return self._estimates.expected_s(job.kind)
        for slot in self._slots:
            for held in slot.in_flight:
                if held.job.queue == queue:
                    return self._estimates.expected_s(held.job.kind)
        return UNKNOWN_S

    def _in_flight_of(self, queue: str) -> int:
        if len(self._queues) == 1:
            return sum(len(slot.in_flight) for slot in self._slots)
        return sum(held.job.queue == queue for slot in self._slots for held in slot.in_flight)
