"""What a supervisor may spend on jobs that weigh something, and what runs of it.

A job of a kind with a weight takes so many cores and so much memory while it runs. Any other job
takes what its worker process stands for: one core, or less where there are more processes than
cores. So as many of those run at once as there are processes, and a job of four cores beside them
takes the place of four, if there is a process for each core. Of memory they take nothing here.

Nothing is counted up and down: what runs is read off the slots each time, so that no share of the
budget is ever lost or given back twice. A slot carries the weight of its job until that is over, or
until its process is gone with all that the job started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from synk.claim import ClaimedJob
    from synk.core.slot import Slot
    from synk.weight import Weight


@dataclass(frozen=True, slots=True)
class Load:
    """What some jobs take together.

    Attributes:
        shares: of the cores, in the budget's own small unit.
        memory: bytes.
    """

    shares: int = 0
    memory: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(self.shares + other.shares, self.memory + other.memory)

    def __sub__(self, other: Load) -> Load:
        return Load(self.shares - other.shares, self.memory - other.memory)


class Budget:
    """What there is, and what each kind takes of it.

    Args:
        cores: how many there are.
        memory: bytes.
        weights: kind -> what its jobs take; kinds without a weight are absent.
        processes: how many worker processes share the cores.
        cpus: the numbers of the CPUs that jobs may run on.
    """

    def __init__(
        self,
        *,
        cores: int,
        memory: int,
        weights: Mapping[str, Weight],
        processes: int,
        cpus: Collection[int] = (),
    ) -> None:
        self.cores = cores
        self.memory = memory
        self.weights = weights
        self._cpus = sorted(cpus)
        # In a unit of which both a core and the part of one process are whole numbers.
        core, process = (processes, cores) if processes > cores else (1, 1)
        self._core_shares = core
        self._all = Load(cores * core, memory)
        self.plain = Load(process)
        """What a job without a weight takes."""
        self._loads = {
            kind: Load(process if each.cores is None else each.cores * core, each.memory)
            for kind, each in weights.items()
        }

    def load_of(self, kind: str) -> Load:
        """Returns what a job of *kind* takes."""
        return self._loads.get(kind, self.plain)

    def is_lighter(self, kind: str, than: str) -> bool:
        """Whether jobs of *kind* may fit where those of the other kind, with a weight, do not."""
        if kind not in self.weights:
            return True
        one, other = self._loads[kind], self._loads[than]
        return one.shares < other.shares or one.memory < other.memory

    @property
    def parts(self) -> dict[str, int]:
        """How many workers' part a job of each kind takes."""
        return {
            kind: max(1, load.shares // self.plain.shares) for kind, load in self._loads.items()
        }

    def fits(self, load: Load, beside: Load) -> bool:
        """Whether *load* is there beside what runs."""
        return self.room(load, beside) > 0

    def room(self, load: Load, beside: Load) -> int:
        """Returns how many times *load* is there beside what runs; 0 or less: it is not."""
        free = self._all - beside
        count = free.shares // load.shares
        return min(count, free.memory // load.memory) if load.memory else count

    def load_on(self, slots: Iterable[Slot]) -> Load:
        """Returns what the jobs at these workers take, and those whose processes are to go."""
        jobs = [job for slot in slots if (job := job_on(slot)) is not None]
        return sum((self.load_of(job.kind) for job in jobs), Load())

    def is_weighted(self, slot: Slot) -> bool:
        """Whether a slot has a job that weighs something."""
        job = job_on(slot)
        return job is not None and job.kind in self.weights

    def cores_of(self, load: Load) -> float:
        """Returns a load's cores."""
        return load.shares / self._core_shares

    def cpus_for(
        self, kind: str, allowed: Collection[int], taken: Iterable[Sequence[int]]
    ) -> tuple[int, ...]:
        """Returns the CPUs for a job of *kind*: those that fewest others have; empty: any.

        Args:
            kind: its weight says how many.
            allowed: those that jobs of its queue may run on; empty: all.
            taken: those of each of the other jobs.
        """
        weight = self.weights.get(kind)
        if weight is None or weight.cores is None:
            return ()
        users = dict.fromkeys(allowed or self._cpus, 0)
        for each in taken:
            for cpu in each:
                if cpu in users:
                    users[cpu] += 1
        return tuple(sorted(sorted(users, key=lambda cpu: (users[cpu], cpu))[: weight.cores]))


def job_on(slot: Slot) -> ClaimedJob | None:
    """Returns the job whose weight a slot carries; None: it has none."""
    if slot.in_flight:
        return slot.in_flight[0].job
    # It ended as it was asked to, and its process is still there.
    return slot.withheld[-1].job if slot.withheld else None
