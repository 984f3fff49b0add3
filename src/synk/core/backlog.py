"""Jobs that are claimed and wait for a worker, by queue and urgency."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from synk.row import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from synk.claim import ClaimedJob


class QueueBacklog:
    """The waiting jobs of one queue, a line for each priority."""

    __slots__ = ("_lines", "_taken", "count", "stuck_since")

    def __init__(self) -> None:
        self._lines: dict[int, deque[ClaimedJob]] = {int(p): deque() for p in Priority}
        self._taken = False
        self.count = 0
        self.stuck_since: float | None = None
        """Since when no worker has taken any of them; None: none waits."""

    def __iter__(self) -> Iterator[ClaimedJob]:
        for line in self._lines.values():
            yield from line

    def append(self, job: ClaimedJob) -> None:
        """Puts *job* behind its equals."""
        self._lines[job.priority].append(job)
        self.count += 1

    def append_left(self, job: ClaimedJob) -> None:
        """Puts *job* back in front of its equals."""
        self._lines[job.priority].appendleft(job)
        self.count += 1

    def peek(self) -> ClaimedJob | None:
        """Returns the most urgent job, and leaves it there."""
        for line in self._lines.values():
            if line:
                return line[0]
        return None

    def least_urgent(self) -> int | None:
        """Returns the priority of the least urgent job; None: no job waits."""
        return max((priority for priority, line in self._lines.items() if line), default=None)

    def count_above(self, priority: int) -> int:
        """Returns how many jobs wait that are more urgent than *priority*."""
        return sum(len(line) for above, line in self._lines.items() if above < priority)

    def pop_alike(self, most: int) -> list[ClaimedJob]:
        """Takes out the most urgent job, and those of its kind right behind it; *most* in all."""
        line = next(filter(None, self._lines.values()))
        alike = [line.popleft()]
        kind = alike[0].kind
        while line and len(alike) < most and line[0].kind == kind:
            alike.append(line.popleft())
        self.count -= len(alike)
        self._taken = True
        return alike

    def look(self, now: float) -> None:
        """Brings `stuck_since` up to date."""
        if not self.count:
            self.stuck_since = None
        elif self._taken or self.stuck_since is None:
            self.stuck_since = now
        self._taken = False

    def remove_where(self, unwanted: Callable[[ClaimedJob], bool]) -> list[ClaimedJob]:
        """Takes out and returns the jobs for which *unwanted* is true."""
        removed: list[ClaimedJob] = []
        for line in self._lines.values():
            kept: deque[ClaimedJob] = deque()
            for job in line:
                (removed if unwanted(job) else kept).append(job)
            line.clear()
            line.extend(kept)
        self.count -= len(removed)
        return removed


class Backlog:
    """All queues' waiting jobs; they take turns, so that none starves another."""

    def __init__(self, queues: Iterable[str]) -> None:
        self.queues = {name: QueueBacklog() for name in queues}
        self._order = list(self.queues)
        self._next = 0

    @property
    def count(self) -> int:
        """How many jobs wait."""
        return sum(queue.count for queue in self.queues.values())

    def __iter__(self) -> Iterator[ClaimedJob]:
        for queue in self.queues.values():
            yield from queue

    def append(self, job: ClaimedJob) -> None:
        """Puts *job* behind its equals."""
        self.queues[job.queue].append(job)

    def append_left(self, job: ClaimedJob) -> None:
        """Puts *job* back in front of its equals."""
        self.queues[job.queue].append_left(job)

    def turns(self) -> Iterator[tuple[str, QueueBacklog]]:
        """Yields the queues that have jobs, beginning after the one that had its turn last."""
        for name in self._order[self._next :] + self._order[: self._next]:
            queue = self.queues[name]
            if queue.count:
                yield name, queue

    def had_its_turn(self, name: str) -> None:
        """A worker was given jobs of this queue, before those of others."""
        self._next = self._order.index(name) + 1

    def remove_where(self, unwanted: Callable[[ClaimedJob], bool]) -> list[ClaimedJob]:
        """Takes out and returns the jobs for which *unwanted* is true."""
        return [job for queue in self.queues.values() for job in queue.remove_where(unwanted)]
