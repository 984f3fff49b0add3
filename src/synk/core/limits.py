"""What bounds jobs and worker processes, as the pool is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from synk.claim import ClaimedJob


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """What the pool knows of a queue."""

    max_workers: int
    timeout_s: float
    rss_max: int | None = None
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycling:
    """When a worker process is replaced, and how long it, or a cancelled job, gets."""

    jobs_max: int | None = None
    """Between two jobs, after so many."""
    rss_max: int | None = None
    """Between two jobs, when it holds so many bytes of memory."""
    start_timeout_s: float = 60.0
    """When it is not ready for jobs after so many seconds."""
    cancel_grace_s: float = 5.0
    """From the request to cancel, which raises in the job, to the kill."""


@dataclass(frozen=True, slots=True)
class Limits:
    """All of it, for the slots of one supervisor."""

    queues: Mapping[str, QueueLimits]
    recycling: Recycling = Recycling()
    limited: Container[str] | None = None
    """The kinds whose workers may name limits of their own; None: all."""

    def of(self, job: ClaimedJob) -> QueueLimits:
        """Returns what its queue allows a job."""
        return self.queues[job.queue]

    def may_name_its_own(self, job: ClaimedJob) -> bool:
        """Whether the worker of *job* may name limits on its status page once it runs."""
        return self.limited is None or job.kind in self.limited
