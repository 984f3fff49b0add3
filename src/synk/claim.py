"""A claim of a job: what it gives, what names it, and what is written when it ends."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import msgspec

from synk.row import DEFAULT_QUEUE, CancelReason, JobState

Mark: TypeAlias = tuple[float, int]
"""A place in a queue's order within one priority: when a job was due, in seconds since 1970, and
its id."""


class ClaimedJob(msgspec.Struct, array_like=True, gc=False):
    """A job that this supervisor has claimed; the order of the fields is that of ``claim.sql``.

    It travels to its worker as it is.
    """

    id: int
    attempt: int
    kind: str
    priority: int
    scheduled_at: float
    """In seconds since 1970 UTC, as the other times."""
    max_attempts: int
    uncounted: int
    name: str
    created_at: float
    attempted_at: float
    args: str
    """JSON text, passed on as it came."""
    history: str | None
    """JSON of attempted_by, depends_on, errors and checkpoint, where there was something before
    this claim."""
    crashes: int = 0
    """Earlier attempts that took their worker process with them."""
    queue: str = DEFAULT_QUEUE
    claim_seq: int = 0
    expected_s: float = 0.0
    """How long the pool expects it to run, by what its kind took so far."""
    cancel_requested: bool = False
    disowned: bool = False
    """The storage says that this claim is over: whatever becomes of it is of no use."""

    @property
    def charged(self) -> int:
        """The attempts that count, this one included."""
        return self.attempt - self.uncounted


@dataclass(frozen=True, slots=True)
class Fence:
    """Names one claim of one job."""

    id: int
    attempt: int
    claim_seq: int


class Outcome(msgspec.Struct, gc=False):
    """What is to be written about an attempt; applied only if the fence holds."""

    id: int
    attempt: int
    claim_seq: int
    state: JobState = JobState.COMPLETED
    duration_us: int = 0
    cpu_us: int = 0
    system_us: int = 0
    """The part of the CPU time that the kernel took."""
    peak_rss_bytes: int = 0
    pid: int | None = None
    result: str | None = None
    """JSON text."""
    error: str | None = None
    """An AttemptError as JSON text."""
    crashed: bool = False
    """Whether it took its worker process with it."""
    output: str | None = None
    """The end of what it wrote to stdout and stderr, if it did not fail: an error has its own."""
    progress: str | None = None
    checkpoint: str | None = None
    """What it noted, as JSON text; None: nothing new."""
    retry_at: dt.datetime | None = None
    retry_in_s: float | None = None
    """Seconds from the acknowledgement on; of the two, `retry_at` wins."""
    cancel_reason: CancelReason | None = None
    uncharged: bool = False


class AckAnswer(StrEnum):
    """What the storage did with an outcome. Each of them settles the matter except ``locked``."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    """This very outcome was applied before: the first answer was lost on the way."""
    FENCED = "fenced"
    """The attempt is not this supervisor's any more; the row was left alone."""
    GONE = "gone"
    LOCKED = "locked"
    """Somebody holds the lock of the row, or of one that waits for it: offer the outcome again."""
