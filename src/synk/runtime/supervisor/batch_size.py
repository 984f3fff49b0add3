"""How many rows a batch of maintenance has: as many as the storage does in a moment.

A slow disk and wide rows make a batch of any fixed size last for seconds, in which all else waits.
"""

from __future__ import annotations

from typing import Final

BATCH_S: Final = 0.1
"""How long a batch should take at the most."""

_FIRST: Final = 100

_HELPED: Final = 0.75
"""Half as many that take more than this share of the time were not too many."""


class BatchSize:
    """The size of the next batch: twice the last one, or half of it, by the time that it took.

    Args:
        most: what it never has more of.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._halved_at_s: float | None = None
        self.size = min(most, _FIRST)

    def took(self, seconds: float, count: int) -> bool:
        """Takes in a batch that found *count* rows; returns whether there may be more of them."""
        if count < self.size:
            return False
        halved_at_s, self._halved_at_s = self._halved_at_s, None
        if seconds < BATCH_S / 2:
            self.size = min(self._most, self.size * 2)
        elif halved_at_s is not None and seconds > max(BATCH_S, halved_at_s * _HELPED):
            # The time goes into finding them, past rows that no vacuum may remove, say.
            self.size = min(self._most, self.size * 4)
        elif seconds > BATCH_S:
            self.size = max(1, self.size // 2)
            self._halved_at_s = seconds
        return True

    def was_too_much(self) -> None:
        """The storage gave up on a batch of this size."""
        self.size = max(1, self.size // 2)
