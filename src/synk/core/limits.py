"""What bounds jobs and worker processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from synk.claim import ClaimedJob
    from synk.config import EngineConfig, QueueConfig
    from synk.weight import Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """What the pool knows of a queue."""

    max_workers: int
    timeout_s: float
    rss_max: int | None = None
    """Bytes."""
    cpus: tuple[int, ...] = ()
    """Those that its jobs run on; empty: any."""


def limits_of(queues: Mapping[str, QueueConfig]) -> dict[str, QueueLimits]:
    """Returns what holds for *queues* as they are configured."""
    return {
        name: QueueLimits(
            max_workers=queue.max_workers,
            timeout_s=queue.job_timeout.total_seconds(),
            rss_max=queue.max_rss,
            cpus=tuple(sorted(queue.cpus or ())),
        )
        for name, queue in queues.items()
    }


@dataclass(frozen=True, slots=True)
class Limits:
    """All of it, for the slots of one supervisor."""

    queues: dict[str, QueueLimits]
    engine: EngineConfig
    """When a worker process is replaced, and how long it, or a cancelled job, gets."""
    limited: Container[str] | None = None
    """The kinds whose workers may name limits of their own; None: all."""
    weights: Mapping[str, Weight] | None = None
    """What the jobs of some kinds take; None: of none."""

    def resize(self, max_workers: Mapping[str, int]) -> set[str]:
        """Has so many jobs of each queue run at once; returns the queues that had more before."""
        fewer: set[str] = set()
        for name, count in max_workers.items():
            limits = self.queues[name]
            if count < limits.max_workers:
                fewer.add(name)
            self.queues[name] = replace(limits, max_workers=count)
        return fewer

    def of(self, job: ClaimedJob) -> QueueLimits:
        """Returns what its queue allows a job."""
        return self.queues[job.queue]

    def rss_of(self, job: ClaimedJob) -> int | None:
        """Returns the bytes of memory that a job may use, where its worker names no limit."""
        return self.memory_of(job) or self.queues[job.queue].rss_max

    def memory_of(self, job: ClaimedJob) -> int | None:
        """Returns the bytes that a job weighs by its kind; None: that does not say."""
        weight = None if self.weights is None else self.weights.get(job.kind)
        return None if weight is None else weight.memory or None

    def may_name_its_own(self, job: ClaimedJob) -> bool:
        """Whether the worker of *job* may name limits on its status page once it runs."""
        return self.limited is None or job.kind in self.limited
