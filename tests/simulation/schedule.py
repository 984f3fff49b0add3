"""Virtual time: what is due happens in order, and waiting is instantaneous.

Nothing here is a thread. Who waits in the middle of something (for an answer of the storage, say)
calls `pass_time`, within which everything else goes on; so the ends of two such waits are nested,
and never cross. All that happens is in one order, which a seed repeats.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

EVENTS_MAX = 200_000
"""More than any history needs: one that has more goes round in circles."""


class Schedule:
    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._happened = 0

    def at(self, time: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(time, self.now), next(self._numbers), what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self.at(self.now + seconds, what)

    def run_until(self, time: float) -> None:
        while self._events and self._events[0][0] <= time:
            due, _, what = heapq.heappop(self._events)
            self.now = max(self.now, due)
            self._happened += 1
            assert self._happened < EVENTS_MAX, "no end of events"
            what()
        self.now = max(self.now, time)

    def pass_time(self, seconds: float) -> None:
        self.run_until(self.now + seconds)
