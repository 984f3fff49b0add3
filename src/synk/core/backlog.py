"""Jobs that are claimed and wait for a worker, by queue and urgency.

Queues have equal parts of the workers' time, by what their jobs are expected to take: it is the
turn of the one that has used least. What a queue did not use while none of its jobs waited is not
made up for: then it begins where the others are (start-time fair queueing).

Jobs of kinds that weigh something wait aside, in one line: those that fit pass those that do not.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from synk.core.estimates import UNKNOWN_S
from synk.core.keyed_jobs import KeyedJobs
from synk.row import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from synk.claim import ClaimedJob


HELD_S: Final = 5.0
"""Claimed jobs of a queue of which no worker has taken any for this long go back to the storage,
for other supervisors."""

_UNKNOWN_SHARE_S: Final = 0.05
"""What a job of a kind that was never seen is taken to use: most are short, and their queue shall
not wait long for its next turn."""


class QueueBacklog:
    """The waiting jobs of one queue, a line for each priority."""

    __slots__ = ("_lines", "_taken", "count", "stuck_since", "used_s")

    def __init__(self) -> None:
        self._lines: dict[int, deque[ClaimedJob]] = {int(p): deque() for p in Priority}
        self._taken = False
        self.count = 0
        self.used_s = 0.0
        """What it has used of the workers' time, by the measure of `Backlog.charge`."""
        self.stuck_since: float | None = None
        """Since when no worker has taken any of them; None: none waits."""

    def __iter__(self) -> Iterator[ClaimedJob]:
        for line in self._lines.values():
            yield from line

    def extend(self, jobs: Iterable[ClaimedJob]) -> None:
        """Puts each of *jobs* behind its equals."""
        lines = self._lines
        for job in jobs:
            lines[job.priority].append(job)
        self.count = sum(map(len, lines.values()))

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
        for _ in range(min(most - 1, len(line))):
            if line[0].kind != kind:
                break
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
    """All queues' waiting jobs; they take turns, so that none starves another.

    Args:
        queues: their names.
        weighted: the kinds whose jobs wait aside, and how many workers' part each job takes; None:
            no kind's.
    """

    def __init__(self, queues: Iterable[str], weighted: Mapping[str, int] | None = None) -> None:
        self.queues = {name: QueueBacklog() for name in queues}
        self.keyed = KeyedJobs()
        """Knows which of them have keys, and has those that wait for a permit."""
        self.aside: list[ClaimedJob] = []
        """The jobs that weigh something, of all queues, the most urgent first."""
        self.weighted = weighted or {}
        """The kinds that weigh something, and how many workers' part a job of each takes."""
        self._is_shared = len(self.queues) > 1
        self._used_s = 0.0
        """What the queue had used whose turn was last."""

    @property
    def count(self) -> int:
        """How many jobs wait, but for those aside."""
        return sum(queue.count for queue in self.queues.values())

    @property
    def is_of_several(self) -> bool:
        """Whether jobs of more than one queue wait."""
        return self._is_shared and sum(queue.count > 0 for queue in self.queues.values()) > 1

    def __iter__(self) -> Iterator[ClaimedJob]:
        for queue in self.queues.values():
            yield from queue
        yield from self.keyed
        yield from self.aside

    def extend(self, jobs: Iterable[ClaimedJob]) -> None:
        """Puts each of *jobs* behind its equals."""
        if self.weighted:
            jobs = self._put_aside(jobs)
        for name, of_queue in groupby(jobs, key=attrgetter("queue")):
            queue = self.queues[name]
            if not queue.count:
                self._join(queue)
            queue.extend(of_queue)

    def _put_aside(self, jobs: Iterable[ClaimedJob]) -> list[ClaimedJob]:
        """Takes in those that weigh something; returns the others."""
        plain: list[ClaimedJob] = []
        for job in jobs:
            if job.kind in self.weighted:
                self._insert_aside(job)
            else:
                plain.append(job)
        return plain

    def _insert_aside(self, job: ClaimedJob) -> None:
        queue = self.queues[job.queue]
        if not queue.count and not any(each.queue == job.queue for each in self.aside):
            self._join(queue)
        insort(self.aside, job, key=order_of)

    def append_left(self, job: ClaimedJob, expected_s: float) -> None:
        """Puts *job* back in front of its equals: it was charged with so much and did not run."""
        queue = self.queues[job.queue]
        if job.kind in self.weighted:
            self._insert_aside(job)
        else:
            if not queue.count:
                self._join(queue)
            queue.append_left(job)
        self.refund(job, expected_s)

    def refund(self, job: ClaimedJob, expected_s: float) -> None:
        """Its queue was charged with so much for *job*, which did not run."""
        parts = self.weighted.get(job.kind, 1)
        self.queues[job.queue].used_s -= _share_of(expected_s) * parts

    def _join(self, queue: QueueBacklog) -> None:
        """Jobs of this queue wait from now on."""
        queue.used_s = max(queue.used_s, self._used_s)

    def turns(self) -> Iterable[tuple[str, QueueBacklog]]:
        """Returns the queues that have jobs, that first whose turn it is."""
        waiting = [each for each in self.queues.items() if each[1].count]
        if len(waiting) > 1:
            waiting.sort(key=lambda named: named[1].used_s)
        return waiting

    def take_aside(self, job: ClaimedJob, expected_s: float) -> None:
        """Takes out one of those aside, which a worker was given."""
        self.aside.remove(job)
        self.charge(job.queue, expected_s, self.weighted[job.kind])

    def charge(self, name: str, expected_s: float, count: int) -> None:
        """A worker was given *count* jobs of this queue, of so many seconds each."""
        if self._is_shared:
            queue = self.queues[name]
            self._used_s = max(self._used_s, queue.used_s)
            queue.used_s += _share_of(expected_s) * count

    def before_the_turn_of(self, name: str, others: Iterable[str]) -> float:
        """Returns how many seconds *others* may use before it is the turn of this queue."""
        used_s = max(self.queues[name].used_s, self._used_s)
        return sum(max(0.0, used_s - self.queues[other].used_s) for other in others)

    def remove_where(self, unwanted: Callable[[ClaimedJob], bool]) -> list[ClaimedJob]:
        """Takes out and returns the jobs for which *unwanted* is true."""
        removed = [job for queue in self.queues.values() for job in queue.remove_where(unwanted)]
        if self.aside:
            removed += filter(unwanted, self.aside)
            self.aside[:] = [job for job in self.aside if not unwanted(job)]
        return removed + self.keyed.remove_where(unwanted)

    def emptied(self) -> list[ClaimedJob]:
        """Takes out and returns all jobs."""
        return self.remove_where(lambda _: True)

    def stuck(self, now: float) -> list[ClaimedJob]:
        """Takes out and returns the jobs of queues of which no worker has taken any for long."""
        stuck: list[ClaimedJob] = []
        for queue in self.queues.values():
            queue.look(now)
            if queue.stuck_since is not None and now >= queue.stuck_since + HELD_S:
                stuck += queue.remove_where(lambda _: True)
        return stuck + self.keyed.stuck(now)

    def stuck_times(self) -> list[float]:
        """Returns when there will be such jobs."""
        since = (queue.stuck_since for queue in self.queues.values())
        times = [each + HELD_S for each in since if each is not None]
        return times + self.keyed.stuck_times()


def order_of(job: ClaimedJob) -> tuple[int, float, int]:
    """Returns what the jobs of a queue begin by, the least first."""
    return job.priority, job.scheduled_at, job.id


def _share_of(expected_s: float) -> float:
    return _UNKNOWN_SHARE_S if expected_s == UNKNOWN_S else expected_s
