"""How far the claims of one supervisor have read a queue: a hint that spares them the way there.

Each claimed row leaves a dead entry in the index by which claims are made. Every claim would walk
all of them again until they are vacuumed, which an open transaction anywhere in the database can
put off for hours. So a claim that found as many jobs as it wanted leaves a cursor where it stopped,
for each priority, and the next one begins there.

What lies before a cursor is passed over then: jobs that were given back, were locked, or whose
transaction committed late. They are found by a claim without cursors, a look from the beginning,
which comes soon: at once when nothing is left behind the cursors, unless the way there is long.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synk.claim import ClaimCursor, ClaimedJob

END: Final[ClaimCursor] = (float("inf"), 2**63 - 1)
"""The cursor behind which there are no jobs."""

LOOK_BACK_S: Final = 0.25
"""How long cursors are used, at the least, before the next look."""

_LOOK_BACK_SHARE: Final = 30
LOOK_BACK_MAX_S: Final = 10.0
"""A look that takes long is made so much more rarely, but after the second at the latest. Claims
take a small part of the time, and the looks among them shall not take as much again."""

_LONG_S: Final = 0.002
_JOB_S: Final = 1e-5
_LONG_SHARE: Final = 1.5
"""A look had a long way if it took longer than this, the second for each job that it brought, and
the third times what a claim with cursors takes without its jobs: on a server far away, everything
takes long."""

_RISE: Final = 1.1
_RISE_S: Final = 0.0005
"""By so much what is usual rises with one claim at most."""

_LOOKS: Final = 3
"""So many looks in a row must have had a long way: one alone may have waited for a CPU."""


class ClaimCursors:
    """The cursors of one queue."""

    def __init__(self) -> None:
        self._cursors: dict[int, ClaimCursor] = {}
        """Where the next claim begins, by priority; empty: it looks from the beginning."""
        self._furthest: dict[int, ClaimCursor] = {}
        """The last job of each priority that was ever claimed here."""
        self._stopped_at = 0
        """The priority at which the last claim stopped."""
        self._look_back_at = 0.0
        self._looks_s: deque[float] = deque([0.0], _LOOKS)
        """What the last looks took, without what their jobs take."""
        self._usual_s = 0.0
        """What claims with cursors take, likewise: it follows quicker ones at once and slower ones
        bit by bit, so that one that waited for something makes no long way look short."""

    @property
    def _is_long(self) -> bool:
        """Whether looks have a long way: then the cursors are kept until `_look_back_at`."""
        return min(self._looks_s) > _LONG_S + _LONG_SHARE * self._usual_s

    def at(self, now: float) -> Mapping[int, ClaimCursor]:
        """Returns where a claim begins now, by priority; one without a cursor: anywhere."""
        if self._cursors and now >= self._look_back_at:
            self._cursors = {}
        return dict(self._cursors)

    def claimed(
        self, jobs: Sequence[ClaimedJob], *, limit: int, began: float, now: float
    ) -> float | None:
        """Takes what a claim brought that began with the cursors of that moment.

        Args:
            jobs: what it brought, the most urgent first.
            limit: how many it wanted.
            began: when it was asked.
            now: when it was answered; both monotonic.

        Returns:
            When to claim again at the latest, for what this claim may have passed over; None: it
            passed over nothing, or has not come to the end.
        """
        found = _last_of_each_priority(jobs)
        is_look = not self._cursors
        took_s = now - began
        rest_s = max(0.0, took_s - _JOB_S * len(jobs))
        if is_look:
            self._looks_s.append(rest_s)
            pause_s = min(LOOK_BACK_MAX_S, _LOOK_BACK_SHARE * took_s)
            self._look_back_at = now + max(LOOK_BACK_S, pause_s)
        else:
            self._usual_s = min(rest_s, _RISE * self._usual_s + _RISE_S)
        for priority, cursor in found.items():
            self._furthest[priority] = max(cursor, self._furthest.get(priority, cursor))
        if len(jobs) >= limit:
            self._cursors |= found
            self._stopped_at = jobs[-1].priority
            return None
        # All that there was is read.
        self._cursors = dict(self._furthest) if self._is_long else {}
        if is_look:
            return None
        return self._look_back_at if self._cursors else now

    def announced(self) -> None:
        """There are new jobs: the more urgent ones of them are looked for from the beginning.

        Those of the priority that is being read lie behind its cursor, unless their transaction
        began long ago. Where the way from the beginning is long, none are looked for there.
        """
        if not self._is_long:
            kept = self._stopped_at
            self._cursors = {kept: self._cursors[kept]} if kept in self._cursors else {}


def _last_of_each_priority(jobs: Sequence[ClaimedJob]) -> dict[int, ClaimCursor]:
    """Returns where each priority ends among *jobs*, the most urgent first."""
    last: dict[int, ClaimCursor] = {}
    end = len(jobs)
    while end:
        job = jobs[end - 1]
        last[job.priority] = (job.scheduled_at, job.id)
        # Not by looking at each of a thousand.
        end = bisect_left(jobs, job.priority, hi=end, key=attrgetter("priority"))
    return last
