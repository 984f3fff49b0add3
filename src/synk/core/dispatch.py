"""Which worker gets which jobs: by urgency, by room, and never behind one that is stuck."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from synk.core.demand import moves, room_for, slots_using
from synk.core.messages import Send

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from synk.claim import ClaimedJob
    from synk.core.backlog import Backlog
    from synk.core.estimates import Estimates
    from synk.core.limits import QueueLimits
    from synk.core.slot import Slot

STEAL_S: Final = 0.002
"""What waits at a busy worker is taken back for an idle one if it is at least this much work."""


class Dispatch:
    """Gives the jobs of the backlog to workers."""

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
        self._estimates = estimates

    def to(self, serving: list[Slot], now: float) -> list[Send]:
        """Fills up the workers of *serving*, those with least to do first."""
        serving.sort(key=lambda slot: (len(slot.in_flight), slot.backlog_s))
        share = -(-self._backlog.count // len(serving))
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
                expected_s = self._estimates.expected_s(job.kind)
                room = min(most - len(jobs), room_for(slot, expected_s))
                if room <= 0:
                    break
                alike = queue.pop_alike(room)
                slot.gave(alike, expected_s, now)
                jobs += alike
                self._backlog.charge(name, expected_s, len(alike))
            if slot.in_flight and queue.count > kept[name] and moves(slot):
                kept[name] += 1
                break
        return Send(slot.number, first, jobs) if jobs else None

    def _may_use(self, slot: Slot, queue: str) -> bool:
        """Whether one more slot may hold jobs of *queue*: `max_workers` caps those that run."""
        limit = self._queues[queue].max_workers
        if limit >= len(self._slots) or any(held.job.queue == queue for held in slot.in_flight):
            return True
        return slots_using(self._slots, queue) < limit

    def overfull(self, serving: Iterable[Slot]) -> list[Slot]:
        """Returns the workers at which enough waits to be worth taking back for idle ones."""
        return [
            slot
            for slot in serving
            if len(slot.in_flight) > 1 and slot.backlog_s - slot.in_flight[0].expected_s >= STEAL_S
        ]
