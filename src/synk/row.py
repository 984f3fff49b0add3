"""A job as it is stored: its row, and the words that the row is written in."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final, TypeAlias

from synk.failure import AttemptError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

DEFAULT_QUEUE: Final = "default"


class JobState(StrEnum):
    """Where a job stands. No other state exists."""

    AVAILABLE = "available"
    SCHEDULED = "scheduled"
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job is over: it changes only when somebody retries or deletes it."""
        return self in (JobState.COMPLETED, JobState.CANCELLED)


class CancelReason(StrEnum):
    """Why a job is ``cancelled``."""

    REQUESTED = "requested"
    FAILED = "failed"
    DEPENDENCY = "dependency"
    POISON = "poison"


class Priority(IntEnum):
    """What runs first: the lowest number."""

    CRITICAL = 1
    HIGH = 2
    MEDIUM = 3
    LOW = 4


class Change(StrEnum):
    """What `Client.cancel`, `retry`, `delete` or `ready` did."""

    APPLIED = "applied"
    """Done, and stored."""
    REQUESTED = "requested"
    """The job is running: its supervisor was told, and ends it within moments."""
    TAKEN = "taken"
    """Done, and stored, but the job may still run: no supervisor of synk runs it (a worker of the
    Go package does), so nobody could be told. What becomes of that attempt does not count."""
    BLOCKED = "blocked"
    """Nothing changed: a job that it depends on was cancelled or deleted. Retry that first."""
    REFUSED = "refused"
    """Nothing changed: the job's state does not allow it."""
    GONE = "gone"
    """There is no such job."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, as its handler noted it."""

    done: float
    total: float | None = None
    note: str = ""

    @classmethod
    def from_json(cls, text: str | None) -> Progress | None:
        """Returns what `Job.progress` noted; None of nothing."""
        if text is None:
            return None
        given: Any = json.loads(text)
        return cls(given["done"], given["total"], given["note"])

    @property
    def share(self) -> float | None:
        """From 0 to 1; None if the total is not known."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One row of ``synk.job``, as `Client.get` gives it."""

    id: int
    name: str
    kind: str
    queue: str
    state: JobState
    priority: Priority
    args: Json
    """As they were inserted; their JSON text if that is nothing that Python can read."""
    attempt: int
    max_attempts: int
    uncounted: int
    """Attempts that are not charged: never started, or ended by an orderly shutdown."""
    created_at: dt.datetime
    scheduled_at: dt.datetime
    attempted_at: dt.datetime | None
    finalized_at: dt.datetime | None
    attempted_by: list[str]
    """The ids of the clients that claimed it, in order; the last 100."""
    depends_on: list[int]
    waiting_on: list[int]
    """Those of `depends_on` that are not completed yet."""
    errors: list[AttemptError]
    """The last failed attempts, oldest first; at most 20."""
    cancel_reason: CancelReason | None
    cancel_requested_at: dt.datetime | None
    result: Json
    """What the last attempt returned, if it completed."""
    duration: dt.timedelta | None
    """Wall time of the last attempt."""
    cpu_time: dt.timedelta | None
    """CPU time (user and system) of the last attempt, with that of the processes it waited for."""
    system_time: dt.timedelta | None
    """The part of it that the kernel took; None for attempts below 0.2 ms."""
    peak_rss_bytes: int | None
    """The largest resident memory during the last attempt; None for attempts below 0.2 ms."""
    pid: int | None
    """The worker process of the last attempt."""
    host: str | None
    """The host of the last attempt, if its supervisor is still on record."""
    crashes: int
    """Attempts that took their worker process with them; three are too many."""
    lost: int
    """Attempts whose supervisor was lost; three are too many."""
    idempotency_key: str | None
    output: str
    """The end of what the last attempt wrote to stdout and stderr, if it did not fail: failed
    attempts have theirs in `errors`."""
    progress: Progress | None
    """What a handler noted last with `Job.progress`."""
    checkpoint: Json
    """What a handler noted last with `Job.checkpoint`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSummary:
    """What the jobs of one kind took."""

    kind: str
    completed: int
    cancelled: int
    unfinished: int
    errors: int
    """Failed attempts that are on record."""
    duration_p50: dt.timedelta | None
    duration_p95: dt.timedelta | None
    duration_max: dt.timedelta | None
    cpu_time: dt.timedelta
    peak_rss_bytes: int | None
    """The largest of a completed attempt."""
