"""Jobs that are claimed and wait for a worker, by queue and urgency."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from synk.job import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from synk.job import ClaimedJob


class QueueBacklog:
    """The waiting jobs of one queue, a line for each priority."""

    __slots__ = ("_lines", "count")

    def __init__(self) -> None:
        self._lines: dict[int, deque[ClaimedJob]] = {int(p): deque() for p in Priority}
        self.count = 0

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

    def pop(self) -> ClaimedJob:
        """Takes the most urgent job out."""
        for line in self._lines.values():
            if line:
                self.count -= 1
                return line.popleft()
        raise IndexError("the backlog is empty")

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
    """All queues' waiting jobs; `turns` goes round the queues, so that none starves another."""

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
        """Yields the queues that have jobs, beginning with another one each time."""
        start, self._next = self._next, (self._next + 1) % max(1, len(self._order))
        for name in self._order[start:] + self._order[:start]:
            queue = self.queues[name]
            if queue.count:
                yield name, queue

    def remove_where(self, unwanted: Callable[[ClaimedJob], bool]) -> list[ClaimedJob]:
        """Takes out and returns the jobs for which *unwanted* is true."""
        return [job for queue in self.queues.values() for job in queue.remove_where(unwanted)]
