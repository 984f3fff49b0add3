"""How far the claims of one supervisor have read each queue: a hint that spares them the way there.

Each claimed row leaves a dead entry in the index by which claims are made. Every claim would walk
all of them again until they are vacuumed, which an open transaction anywhere in the database can
put off for hours. So a claim that found as many jobs as it wanted leaves a mark where it stopped,
for each priority, and the next one begins there.

What lies before a mark is passed over then: jobs that were given back, were locked, or whose
transaction committed late. They are found by a claim without marks, which comes soon, and at once
when nothing is left behind the marks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from synk.claim import ClaimedJob, Mark

LOOK_BACK_S: Final = 0.25
"""How long marks are used, at the least."""

_LOOK_BACK_SHARE: Final = 10
"""A claim without marks that takes long is made so much more rarely."""


class Marks:
    """The marks of several queues."""

    def __init__(self, queues: Iterable[str]) -> None:
        self._marks: dict[str, dict[int, Mark]] = {queue: {} for queue in queues}
        self._last: dict[str, int] = {}
        """The priority at which the last claim of a queue stopped."""
        self._look_back_at: dict[str, float] = {}

    def of(self, queue: str, now: float) -> Mapping[int, Mark]:
        """Returns where the next claim begins, by priority; a priority without a mark: anywhere."""
        marks = self._marks[queue]
        if marks and now >= self._look_back_at[queue]:
            marks.clear()
        return dict(marks)

    def claimed(
        self, queue: str, jobs: Sequence[ClaimedJob], *, limit: int, began: float, now: float
    ) -> None:
        """Takes what a claim brought that began with the marks of that moment.

        Args:
            queue: which it was made of.
            jobs: what it brought, the most urgent first.
            limit: how many it wanted.
            began: when it was asked.
            now: when it was answered; both monotonic.
        """
        marks = self._marks[queue]
        if len(jobs) < limit:
            marks.clear()
            return
        if not marks:
            self._look_back_at[queue] = now + max(LOOK_BACK_S, _LOOK_BACK_SHARE * (now - began))
        marks.update((job.priority, (job.scheduled_at, job.id)) for job in jobs)
        self._last[queue] = jobs[-1].priority

    def announced(self) -> None:
        """There are new jobs: the more urgent ones of them are looked for from the beginning.

        Those of the priority that is being read lie behind its mark, unless their transaction began
        long ago.
        """
        for queue, marks in self._marks.items():
            for priority in [each for each in marks if each != self._last[queue]]:
                del marks[priority]
