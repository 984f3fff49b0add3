"""What a job notes while it runs, in memory that its supervisor reads: progress and a checkpoint.

A cell holds the latest of a series of short texts. The worker writes into the half that is not
current and then turns over, so that a reader, at any moment and also after a SIGKILL, finds a whole
text. Writing costs about a microsecond and wakes nobody.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import mmap

_WORD: Final = struct.Struct("=Q")
_TRIES: Final = 100


class ProgressCell:
    """Room for one text in a memory that two processes share; one writes, the other reads.

    Args:
        memory: the mapping.
        offset: where the cell begins, a multiple of eight.
        capacity: the longest text in bytes.
    """

    def __init__(self, memory: mmap.mmap, offset: int, capacity: int) -> None:
        self._memory = memory
        self._offset = offset
        self.capacity = capacity

    @staticmethod
    def size(capacity: int) -> int:
        """Returns the bytes that a cell takes, a multiple of eight."""
        return 8 + 2 * (8 + capacity + -capacity % 8)

    def _half(self, turn: int) -> int:
        return self._offset + 8 + (turn & 1) * (8 + self.capacity + -self.capacity % 8)

    def write(self, text: bytes) -> None:
        """Makes *text* the current one.

        Raises:
            ValueError: it is longer than the capacity.
        """
        if len(text) > self.capacity:
            raise ValueError(f"{len(text)} bytes, at most {self.capacity}")
        (turn,) = _WORD.unpack_from(self._memory, self._offset)
        half = self._half(turn + 1)
        _WORD.pack_into(self._memory, half, len(text))
        self._memory[half + 8 : half + 8 + len(text)] = text
        _WORD.pack_into(self._memory, self._offset, turn + 1)

    def clear(self) -> None:
        """Forgets the text."""
        _WORD.pack_into(self._memory, self._offset, 0)

    def read(self) -> str | None:
        """Returns the current text, or None if there is none."""
        for _ in range(_TRIES):
            (turn,) = _WORD.unpack_from(self._memory, self._offset)
            if turn == 0:
                return None
            half = self._half(turn)
            (length,) = _WORD.unpack_from(self._memory, half)
            text = self._memory[half + 8 : half + 8 + min(length, self.capacity)]
            if _WORD.unpack_from(self._memory, self._offset) == (turn,):
                return text.decode(errors="replace")
        return None
