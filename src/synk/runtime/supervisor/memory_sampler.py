"""How much memory workers use, and whether the kernel has killed something for want of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from synk import cgroup
from synk.core.messages import Sampled
from synk.runtime.ipc import linux
from synk.runtime.supervisor import process_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from synk.core.pool import Pool
    from synk.core.slot import Slot
    from synk.runtime.supervisor.worker_process import WorkerProcess

SAMPLE_S: Final = 0.2
"""Between two looks."""

LOOK_PAUSES: Final = 20
"""Looking at all pages of a worker takes at most a part in so many of its supervisor's time."""


class MemorySampler:
    """Samples the workers that run something; idle ones are left in peace.

    An upper bound is cheap, and mostly enough. Where it is above a limit all pages are looked at,
    which takes milliseconds for each gigabyte: large processes are looked at less often.
    """

    def __init__(self) -> None:
        self._due = 0.0
        self._rests: dict[int, float] = {}
        """Slot -> until when its pages are not looked at again."""

    def next_at(self, processes: Mapping[int, WorkerProcess]) -> float | None:
        """Returns when `due` has something to do, on the monotonic clock; None: nothing runs."""
        return self._due if any(process.running for process in processes.values()) else None

    def due(
        self, now: float, processes: Mapping[int, WorkerProcess], pool: Pool
    ) -> Iterator[Sampled]:
        """Yields what the busy workers use, if it is time."""
        if now < self._due:
            return
        self._due = now + SAMPLE_S
        parents: dict[int, int] = {}
        for number, process in list(processes.items()):
            slot, running = pool.slots[number], process.running
            if not running:
                continue
            if slot.memory_limit is not None:
                parents = parents or linux.parents()
            sample = self._sample(slot, process.pid, parents)
            if process.running == running and sample is not None:
                yield Sampled(number, running, *sample)

    def _sample(self, slot: Slot, pid: int, parents: dict[int, int]) -> tuple[int, int] | None:
        """Returns the memory of a worker, and of it and all that it started; None: not now."""
        of_job, of_worker = slot.memory_limit, slot.limits.engine.max_worker_rss
        below = [] if of_job is None else linux.descendants(pid, parents)
        own = process_memory.most_bytes(pid)
        tree = own + sum(map(process_memory.most_bytes, below))
        if tree <= (of_job or tree) and own <= (of_worker or own):
            return own, tree
        began = time.monotonic()
        if began < self._rests.get(slot.number, 0.0):
            return None
        sample = _looked_at(pid, below, parents.get(pid, 0))
        took_s = time.monotonic() - began
        self._rests[slot.number] = began + LOOK_PAUSES * took_s
        return sample


def _looked_at(pid: int, below: list[int], parent: int) -> tuple[int, int]:
    """Returns the memory of a worker alone, and with the processes below it.

    What these share is counted once, as the sum of their shares, but for what all of them have from
    the worker's own parent: each has at most as large a share of that as the parent itself.
    """
    own = process_memory.own(pid)
    if not below:
        return own.alone, own.alone
    inherited = process_memory.own(parent).shares
    tree = [process_memory.own(pid), *map(process_memory.own, below)]
    # Each share is smaller after every fork, and forks may be under way: the largest it was.
    inherited = max(inherited, process_memory.own(parent).shares)
    shares = sum(max(0, each.shares - inherited) for each in tree)
    return own.alone, sum(each.alone for each in tree) + shares


class OomWatch:
    """Counts the kernel's kills in this process's control group (version 2).

    Args:
        events: the group's ``memory.events``; None: the one of the group that this process is in.
    """

    def __init__(self, events: Path | None = None) -> None:
        found = (folder / "memory.events" for folder in cgroup.folders())
        self._events = events or next((path for path in found if path.exists()), None)
        self._last = self._count()

    def rose(self) -> bool:
        """Whether there was a kill since the last call, or since the start."""
        count, before = self._count(), self._last
        self._last = count
        return count > before

    def _count(self) -> int:
        text = "" if self._events is None else cgroup.read(self._events)
        counts = dict(line.split(None, 1) for line in text.splitlines() if " " in line)
        number = counts.get("oom_kill", "0")
        return int(number) if number.isdigit() else 0
