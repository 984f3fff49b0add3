"""A claim of a job: what it gives, what names it, and what is written when it ends."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import msgspec

from synk.row import DEFAULT_QUEUE, CancelReason, JobState

ClaimCursor: TypeAlias = tuple[float, int]
"""A place in a queue's order within one priority: when a job was due, in seconds since 1970, and
its id."""


class ClaimedJob(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A job that this supervisor has claimed; the order of the fields is that of ``claim.sql``.

    It travels to its worker as it is.

    Attributes:
        id: the job.
        attempt: the number of this attempt, from 1.
        kind: what ties it to its worker.
        priority: 1 (runs first) to 4.
        scheduled_at: when it was due, in seconds since 1970 UTC, as the other times.
        max_attempts: how many charged attempts it has in all.
        uncounted: those before that were not charged.
        name: what people read in lists.
        created_at: when it was inserted.
        attempted_at: when this attempt was claimed.
        args: JSON text, passed on as it came.
        history: JSON of attempted_by, depends_on, errors, checkpoint, tags and meta, where there
            was something before this claim, or has tags or meta.
        crashes: earlier attempts that took their worker process with them.
        start_before: not to be begun after that time; None: at any time.
        queue: the queue it came from.
        claim_seq: the number of the claim, of those of this supervisor.
    """

    id: int
    attempt: int
    kind: str
    priority: int
    scheduled_at: float
    max_attempts: int
    uncounted: int
    name: str
    created_at: float
    attempted_at: float
    args: str
    history: str | None
    crashes: int = 0
    start_before: float | None = None
    queue: str = DEFAULT_QUEUE
    claim_seq: int = 0

    @property
    def charged(self) -> int:
        """The attempts that count, this one included."""
        return self.attempt - self.uncounted


@dataclass(frozen=True, slots=True)
class Fence:
    """Names one claim of one job.

    Attributes:
        id: the job.
        attempt: the number of the attempt.
        claim_seq: the number of the claim, of those of its supervisor.
    """

    id: int
    attempt: int
    claim_seq: int


class Outcome(msgspec.Struct, gc=False):
    """What is to be written about an attempt; applied only if the fence holds.

    Attributes:
        id: the job, which with the next two is the fence.
        attempt: the number of the attempt.
        claim_seq: the number of the claim.
        state: what the job becomes; `JobState.COMPLETED` by default.
        duration_us: wall time, in microseconds.
        cpu_us: CPU time, user and system, in microseconds.
        system_us: the part of it that the kernel took.
        peak_rss_bytes: the largest resident memory; 0: not measured.
        pid: the worker process.
        result: JSON text.
        error: an AttemptError as JSON text.
        crashed: whether it took its worker process with it.
        output: the end of what it wrote to stdout and stderr, if it did not fail: an error has its
            own.
        progress: what it noted, as JSON text; None: nothing new.
        checkpoint: likewise.
        retry_at: when the job is to run again, if it failed.
        retry_in_s: the same in seconds from the acknowledgement on, also for one that snoozes; of
            the two, `retry_at` wins. None of both, and of no other outcome: it keeps its time.
        cancel_reason: why, where the job becomes cancelled.
        uncharged: whether the attempt does not count.
        snoozes: how often the job has snoozed, if it does now: kept in its `meta`, by that name.
    """

    id: int
    attempt: int
    claim_seq: int
    state: JobState = JobState.COMPLETED
    duration_us: int = 0
    cpu_us: int = 0
    system_us: int = 0
    peak_rss_bytes: int = 0
    pid: int | None = None
    result: str | None = None
    error: str | None = None
    crashed: bool = False
    output: str | None = None
    progress: str | None = None
    checkpoint: str | None = None
    retry_at: dt.datetime | None = None
    retry_in_s: float | None = None
    cancel_reason: CancelReason | None = None
    uncharged: bool = False
    snoozes: int | None = None


class AckAnswer(StrEnum):
    """What the storage did with an outcome. Each of them settles the matter except ``locked``.

    Attributes:
        APPLIED: it is written.
        DUPLICATE: this very outcome was applied before: the first answer was lost on the way.
        COMPLETED: the job had completed in a transaction of its own, and stays so; what the attempt
            took, said and noted was added.
        FENCED: the attempt is not this supervisor's any more; the row was left alone.
        GONE: there is no such job any more.
        LOCKED: somebody holds the lock of the row, or of one that waits for it: offer the outcome
            again.
    """

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    COMPLETED = "completed"
    FENCED = "fenced"
    GONE = "gone"
    LOCKED = "locked"
