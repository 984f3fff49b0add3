"""A page of memory in which the threads of a run note when jobs begin and end.

It is a file that all of them map. Each thread writes to a slot of its own, so nothing is locked.
Threads are numbered in the order of their birth: two share a slot only if thousands are born
between them, when the first is long gone, and the other adds to what it left. Moments are seconds
of the monotonic clock, which is one for the whole machine.
"""

from __future__ import annotations

import mmap
import struct
import threading
import time
from pathlib import Path

ENTRY = struct.Struct("ddd")
"""When the thread's first job began, when its last one ended, how many have ended."""

SLOTS = 4096
STAMPS = 65536
SIZE = ENTRY.size * SLOTS + 8 * STAMPS


class Times:
    """One run's page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), SIZE)

    @classmethod
    def make(cls, path: Path) -> Times:
        path.write_bytes(bytes(SIZE))
        return cls(path)

    def begin(self) -> None:
        """Notes the beginning of a job, if it is the first of this thread."""
        place = _place()
        began, ended, count = ENTRY.unpack_from(self._page, place)
        if not began:
            ENTRY.pack_into(self._page, place, time.monotonic(), ended, count)

    def end(self) -> None:
        place = _place()
        began, _, count = ENTRY.unpack_from(self._page, place)
        ENTRY.pack_into(self._page, place, began, time.monotonic(), count + 1)

    def stamp(self, number: int) -> None:
        struct.pack_into("d", self._page, ENTRY.size * SLOTS + 8 * number, time.monotonic())

    def stamped(self, number: int) -> float:
        """When the job of that number began; 0: it has not."""
        return struct.unpack_from("d", self._page, ENTRY.size * SLOTS + 8 * number)[0]

    def count(self) -> int:
        return int(sum(entry[2] for entry in self._entries()))

    def first(self) -> float:
        """When the first job of all began; 0: none has."""
        return min((entry[0] for entry in self._entries() if entry[0]), default=0.0)

    def last(self) -> float:
        return max(entry[1] for entry in self._entries())

    def _entries(self) -> list[tuple[float, float, float]]:
        return list(ENTRY.iter_unpack(self._page[: ENTRY.size * SLOTS]))


def _place() -> int:
    """Where this thread's entry is."""
    return threading.get_native_id() % SLOTS * ENTRY.size
