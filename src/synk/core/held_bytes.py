"""What claimed jobs weigh: their arguments, and what earlier attempts left to them.

Most weigh next to nothing, and are bounded by their number. The large ones are counted in bytes, so
that no supervisor dies of its own claims: those that wait, here or at a worker, have a limit, and
one claim asks for a quarter of it at most. Queues have equal shares, so that the large jobs of one
keep none of another from being claimed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from synk.claim import ClaimedJob
    from synk.core.slot import Slot

CLAIMS_A_HOLD: Final = 4
"""So many claims bring what may wait together. While one is read it takes twice its weight."""

LARGE_BYTES: Final = 4096
"""Jobs up to this weight are not counted: the largest number of them that may be at hand weighs
less than the least that may wait."""


def weight_of(job: ClaimedJob) -> int:
    """Returns about how many bytes a job takes here."""
    return len(job.args) + (0 if job.history is None else len(job.history))


class HeldBytes:
    """The large jobs that one supervisor holds.

    Args:
        slots: its workers.
        queues: the names of the queues that share its memory.
        held_bytes: what the jobs that wait may weigh together; the last one may exceed it.
    """

    def __init__(self, slots: Sequence[Slot], queues: Collection[str], held_bytes: int) -> None:
        self._slots = slots
        self._share = held_bytes // max(1, len(queues))
        self._large: dict[int, tuple[str, int]] = {}
        """By the job's id: its queue and its weight."""

    def take(self, jobs: Iterable[ClaimedJob]) -> None:
        """These were claimed."""
        for job in jobs:
            if (len(job.args) > LARGE_BYTES or job.history is not None) and (
                weight := weight_of(job)
            ) > LARGE_BYTES:
                self._large[job.id] = (job.queue, weight)

    def drop(self, ids: Iterable[int]) -> None:
        """Jobs with these ids are not held any more."""
        if self._large:
            for job_id in ids:
                self._large.pop(job_id, None)

    def keep(self, ids: Collection[int]) -> None:
        """Only jobs with these ids are held."""
        self.drop([job_id for job_id in self._large if job_id not in ids])

    def room(self, queue: str) -> int:
        """Returns how many bytes of jobs of *queue* may be claimed; 0 or less: none.

        What runs does not count: it will not wait for a claim, whatever it weighs.
        """
        if not self._large:
            return self._share
        running = {slot.in_flight[0].job.id for slot in self._slots if slot.in_flight}
        return self._share - sum(
            weight
            for job_id, (name, weight) in self._large.items()
            if name == queue and job_id not in running
        )
