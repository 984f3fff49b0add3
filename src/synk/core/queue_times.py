"""When one queue is to be asked for jobs, and what its claims tell of it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from synk.core.claim_cursors import ClaimCursors
from synk.core.held_bytes import weight_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.claim import ClaimedJob

_FORGOTTEN: Final = 0.5
"""Of what jobs weighed, with each claim that brought lighter ones."""

_REST_SHARE: Final = 20
_REST_BEYOND_S: Final = 0.01
_REST_MAX_S: Final = 5.0
"""A claim of jobs with a weight that found too few has read past all others that wait, also those
just announced. For so many times as long as that took, beyond the second, there is none again."""

_BOTH_S: Final = 1.0
"""Two claims tell together that a kind has no jobs if no more than this lies between them."""


class QueueTimes:
    """Of the claims of jobs without a weight. Times are seconds of the monotonic clock."""

    def __init__(self, fetch_s: float) -> None:
        self.fetch_s = fetch_s
        self.due_at = 0.0
        self.urgent_at = 0.0
        self.urgent_rests_until = 0.0
        """There is no look for urgent jobs before that."""
        self.turn = -1
        """The number of its last claim."""
        self.empty = 0
        """Claims in a row that found nothing."""
        self.cursors = ClaimCursors()
        self._mean_bytes = 0.0
        """What its jobs weighed of late."""

    def announced(self) -> None:
        """There may be new jobs."""
        self.due_at = 0.0
        self.urgent_at = self.urgent_rests_until
        self.cursors.announced()

    def count_within(self, bytes_max: int) -> int:
        """Returns how many jobs will weigh about so much: it spares the way through too many."""
        return max(1, int(bytes_max / max(1.0, self._mean_bytes)))

    def weigh(self, jobs: Sequence[ClaimedJob]) -> int:
        """Returns what *jobs* weigh, and remembers it."""
        total = sum([weight_of(job) for job in jobs])
        if jobs:
            self._mean_bytes = max(total / len(jobs), self._mean_bytes * _FORGOTTEN)
        return total


class WeightedTimes(QueueTimes):
    """Of the claims of jobs with a weight, which are for other kinds each time."""

    def __init__(self, fetch_s: float) -> None:
        super().__init__(fetch_s)
        self._kinds: Sequence[str] = ()
        """Those that the cursors were read for."""
        self._none_of: set[str] = set()
        """Kinds of which the last claim has left none."""
        self._rests_until = 0.0
        """There is no claim before that."""
        self._none_at: dict[tuple[str, bool], float] = {}
        """When a claim found none of a kind that have no keys, or (True) that have some."""

    def due_for(self, kinds: Sequence[str]) -> float:
        """Returns when *kinds* are to be claimed: at once if some may wait."""
        return max(self._rests_until, self.due_at if self._none_of.issuperset(kinds) else 0.0)

    def begin(self, kinds: Sequence[str]) -> None:
        """These are claimed."""
        if kinds != self._kinds:
            # The way so far was read for others.
            self._kinds, self.cursors = kinds, ClaimCursors()

    def found(self, *, all_that_wait: bool, began: float, now: float) -> None:
        """The claim was answered."""
        kinds = self._kinds
        if all_that_wait:
            self._none_of.update(kinds)
            rest_s = _REST_SHARE * (now - began - _REST_BEYOND_S)
            self._rests_until = now + min(_REST_MAX_S, rest_s)
        else:
            self._none_of.difference_update(kinds)

    def found_none(self, kinds: Sequence[str], at: float, *, is_keyed: bool) -> Sequence[str]:
        """Takes in that a claim left none of *kinds*; returns those of which none waits at all."""
        self._none_at.update(dict.fromkeys([(kind, is_keyed) for kind in kinds], at))
        none_at = self._none_at.get
        return [kind for kind in kinds if at - none_at((kind, not is_keyed), -inf) <= _BOTH_S]

    def announced(self) -> None:
        """There may be new jobs."""
        super().announced()
        self._none_of.clear()
