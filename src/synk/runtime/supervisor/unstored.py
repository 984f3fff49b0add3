"""What outcomes weigh that wait to be stored, so that no supervisor dies of them.

Where the storage is away, or slower than the jobs, they are kept, and nothing of them is dropped:
less is claimed instead, and nothing at all once they are too many or too heavy. Counted are
kilobytes of texts; an outcome with less than one is bounded by its number.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.claim import Outcome
    from synk.core.messages import Settle

UNSTORED_MAX: Final = 10_000
"""With so many no more jobs are claimed: they would all run again if this process died now."""

_KILOBYTE: Final = 1000
_NOTHING: Final = 0.01
"""Kilobytes that outcomes weigh which are bounded by their number."""

_FORGOTTEN: Final = 0.05
"""Of what outcomes weighed, with each time that lighter ones arrive; heavier ones count at once."""

_NO_TEXTS: Final = (None, None, None, None)


class Unstored:
    """Counts what arrives and what leaves, in any thread.

    Args:
        bytes_max: what those that wait may weigh together.
    """

    def __init__(self, bytes_max: int) -> None:
        self._most = bytes_max // _KILOBYTE
        self._lock = threading.Lock()
        self._expected = 0.0
        self.weight = 0
        """Kilobytes that wait."""

    @property
    def expects_texts(self) -> bool:
        """Whether outcomes of late have weighed anything."""
        return self._expected > 0 or self.weight > 0

    def arrived(self, settle: Settle) -> None:
        """These attempts are over."""
        if not settle.ended and not self._expected:
            return
        weight = _kilobytes([ended.outcome for ended in settle.ended])
        mean = weight / max(1, len(settle.ended) + len(settle.successes))
        self._expected = max(mean, self._expected - (self._expected - mean) * _FORGOTTEN)
        if self._expected < _NOTHING:
            self._expected = 0.0
        self._add(weight)

    def offered(self, outcomes: Sequence[Outcome]) -> None:
        """These wait from now on."""
        self._add(_kilobytes(outcomes))

    def weigh(self, outcomes: Sequence[Outcome]) -> int:
        """Returns what some of those that wait weigh together."""
        return sum(map(weight_of, outcomes)) if self.weight else len(outcomes)

    def left(self, count: int, weight: int) -> None:
        """So many outcomes wait no longer, which weighed that together."""
        self._add(count - weight)

    def _add(self, weight: int) -> None:
        if weight:
            with self._lock:
                self.weight += weight

    def room(self, waiting: int, at_hand: int) -> int:
        """Returns how many more jobs may be claimed.

        Args:
            waiting: how many outcomes wait.
            at_hand: how many jobs are claimed, and not over.
        """
        left = self._most - self.weight - at_hand * self._expected
        return min(UNSTORED_MAX - waiting, int(left / max(self._expected, _NOTHING)))


def weight_of(outcome: Outcome) -> int:
    """Returns 1, and one more for each kilobyte of the texts of an outcome."""
    texts = (outcome.result, outcome.error, outcome.output, outcome.checkpoint)
    if texts == _NO_TEXTS:
        return 1
    return 1 + sum(len(text) for text in texts if text is not None) // _KILOBYTE


def _kilobytes(outcomes: Sequence[Outcome]) -> int:
    return sum(map(weight_of, outcomes)) - len(outcomes)
