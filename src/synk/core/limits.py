"""What bounds jobs and worker processes, as the pool is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from synk.claim import ClaimedJob
    from synk.config import EngineConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """What the pool knows of a queue."""

    max_workers: int
    timeout_s: float
    rss_max: int | None = None
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """All of it, for the slots of one supervisor."""

    queues: Mapping[str, QueueLimits]
    engine: EngineConfig
    """When a worker process is replaced, and how long it, or a cancelled job, gets."""
    limited: Container[str] | None = None
    """The kinds whose workers may name limits of their own; None: all."""

    def of(self, job: ClaimedJob) -> QueueLimits:
        """Returns what its queue allows a job."""
        return self.queues[job.queue]

    def may_name_its_own(self, job: ClaimedJob) -> bool:
        """Whether the worker of *job* may name limits on its status page once it runs."""
        return self.limited is None or job.kind in self.limited
