"""The claims that one supervisor holds, wherever they are: waiting, at a worker, or withheld."""

from __future__ import annotations

from itertools import islice
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from synk.claim import ClaimedJob
    from synk.core.backlog import Backlog
    from synk.core.held_bytes import HeldBytes
    from synk.core.messages import Settle
    from synk.core.slot import Slot


class HeldClaims:
    """Knows by their ids which jobs are held: a look at all of them would cost each claim too much.

    Args:
        slots: where they run.
        backlog: where they wait.
        held_bytes: what they weigh, which is kept in step.
    """

    def __init__(self, slots: Sequence[Slot], backlog: Backlog, held_bytes: HeldBytes) -> None:
        self._slots = slots
        self._backlog = backlog
        self._bytes = held_bytes
        self._ids: set[int] = set()
        self._are_sure = True
        self._late_at: dict[int, float] = {}
        """By their ids: when jobs are too late that have a time to begin, and have not."""
        self.late_at = inf
        """When the first of them may be."""

    def __iter__(self) -> Iterator[ClaimedJob]:
        yield from self._backlog
        for slot in self._slots:
            for held in slot.in_flight:
                yield held.job
            for ended in slot.withheld:
                yield ended.job

    def take(self, jobs: Sequence[ClaimedJob], asked_at: float) -> list[ClaimedJob]:
        """Takes *jobs*, unless some are held by a former claim; returns those former claims.

        They were asked for at that time, before the storage noted when they were claimed.
        """
        ids = {job.id for job in jobs}
        former = [] if ids.isdisjoint(self._ids) else [job for job in self if job.id in ids]
        if not former:
            self._ids |= ids
            self._bytes.take(jobs)
            for job in jobs:
                if job.start_before is not None and job.charged == 1:
                    late_at = asked_at + job.start_before - job.attempted_at
                    self._late_at[job.id] = late_at
                    self.late_at = min(self.late_at, late_at)
        return former

    def too_late(self, now: float) -> tuple[list[ClaimedJob], list[Slot]]:
        """Returns what waits here and is not to be begun any more, and the workers that have such.

        The first job of a worker has begun, or does at this moment.
        """
        late = {job_id for job_id, at in self._late_at.items() if at <= now}
        for job_id in late:
            del self._late_at[job_id]
        self.late_at = min(self._late_at.values(), default=inf)
        slots: list[Slot] = []
        for slot in self._slots if late else ():
            behind = [held for held in islice(slot.in_flight, 1, None) if held.job.id in late]
            for held in behind:
                held.too_late = True
            if behind:
                slots.append(slot)
        return self._backlog.remove_where(lambda job: job.id in late) if late else [], slots

    def may_begin(self, queues: Container[str]) -> bool:
        """Whether any job of these queues is held that is not known to have begun."""
        at_workers = (
            held.job.queue in queues
            for slot in self._slots
            for place, held in enumerate(slot.in_flight)
            if place or not slot.running
        )
        return any(job.queue in queues for job in self._backlog) or any(at_workers)

    def doubt(self) -> None:
        """What will be settled may be of jobs that are held by another claim."""
        self._are_sure = False

    def settled(self, settle: Settle | None) -> None:
        """These are not held any more, unless there is doubt."""
        if not self._are_sure:
            self._ids = {job.id for job in self}
            self._bytes.keep(self._ids)
            self._are_sure = True
        elif settle is not None:
            over = [job.id for job, _, _ in settle.successes]
            over += [ended.job.id for ended in settle.ended]
            self._ids.difference_update(over)
            self._bytes.drop(over)
            if self._late_at:
                for job_id in over:
                    self._late_at.pop(job_id, None)
