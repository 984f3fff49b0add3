"""How much memory workers use, and whether the kernel has killed something for want of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synk import cgroup
from synk.core.messages import Sampled
from synk.runtime import linux

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from synk.core.pool import Pool
    from synk.runtime.process import WorkerProcess

SAMPLE_S: Final = 0.2
"""Between two looks."""


class Gauge:
    """Samples the workers that run something; idle ones are left in peace."""

    def __init__(self) -> None:
        self._due = 0.0

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
        parents: dict[int, int] | None = None
        for slot, process in list(processes.items()):
            number = process.running
            if not number:
                continue
            own = tree = linux.resident_bytes(process.pid)
            limit = pool.memory_limit(slot)
            if limit is not None:
                parents = linux.parents() if parents is None else parents
                tree = _tree_bytes(process.pid, own, parents, limit)
            if process.running == number:
                yield Sampled(slot, number, own, tree)


def _tree_bytes(pid: int, own: int, parents: dict[int, int], limit: int) -> int:
    """Returns the memory of a worker and all below it.

    The resident sets are added up first, which is quick; where that is over the limit, memory that
    processes share is counted once, as proportional sets.
    """
    below = linux.descendants(pid, parents)
    total = own + sum(map(linux.resident_bytes, below))
    if total <= limit or not below:
        return total
    return sum(map(linux.proportional_bytes, (pid, *below)))


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
