"""The claims that one supervisor holds, wherever they are: waiting, at a worker, or withheld."""

from __future__ import annotations

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

    def __iter__(self) -> Iterator[ClaimedJob]:
        yield from self._backlog
        for slot in self._slots:
            for held in slot.in_flight:
                yield held.job
            for ended in slot.withheld:
                yield ended.job

    def take(self, jobs: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        """Takes *jobs*, unless some are held by a former claim; returns those former claims."""
        ids = {job.id for job in jobs}
        former = [] if ids.isdisjoint(self._ids) else [job for job in self if job.id in ids]
        if not former:
            self._ids |= ids
            self._bytes.take(jobs)
        return former

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
