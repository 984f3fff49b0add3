"""What follows from the end of an attempt: done, another try and when, or the end of the job."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from synk.claim import Outcome
from synk.failure import AttemptError
from synk.row import CancelReason, JobState

if TYPE_CHECKING:
    import datetime as dt

    from synk.claim import ClaimedJob

BACKOFF_BASE: Final = 4.0
"""Seconds before the second attempt; each later wait is this many times as long."""

BACKOFF_MAX_S: Final = 24 * 3600.0
POISON_CRASHES: Final = 3
"""Attempts that killed their worker process, or as many whose supervisor was lost, after which a
job is not tried again."""

JITTER: Final = 0.2
"""The part of the wait that is left to chance, so that jobs that failed together come apart."""


def backoff_s(charged: int, jitter: float) -> float:
    """Returns the seconds to wait after the attempt that was number *charged* to count.

    4 s, 16 s, 64 s, 256 s, ... up to a day, each give or take a tenth.

    Args:
        charged: from 1.
        jitter: from 0 to 1, by chance.
    """
    # The exponent is bounded first: 4.0 ** 1000 does not fit a float.
    wait_s = min(BACKOFF_MAX_S, BACKOFF_BASE ** min(charged, 16))
    return wait_s * (1 - JITTER / 2 + JITTER * jitter)


class Verdict(Enum):
    """What an attempt that did not simply succeed came to.

    Attributes:
        SUCCEEDED: the handler returned.
        FAILED: it raised, was killed, or died.
        CANCELLED: somebody cancelled the job while it ran.
        RELEASED: it never began, or an orderly shutdown ended it: not charged.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one attempt; `judge` makes the outcome of it.

    Attributes:
        job: the claim.
        verdict: what it came to.
        duration_us: wall time, in microseconds.
        cpu_us: CPU time, user and system, in microseconds.
        system_us: the part of it that the kernel took.
        peak_rss_bytes: the largest resident memory; 0: not measured.
        pid: the worker process.
        result: what the handler returned, as JSON text.
        error: the record, or its JSON text as the worker made it.
        retry_at: when the worker wants it tried again; None: by the default back-off.
        is_final: whether another try would only repeat the failure.
        crashed: whether it took its worker process with it, by itself.
        interrupted: why it goes back uncharged though it had begun; empty: it does not.
        output: the end of what it wrote to stdout and stderr.
        progress: what it noted last, as JSON text.
        checkpoint: likewise.
    """

    job: ClaimedJob
    verdict: Verdict
    duration_us: int = 0
    cpu_us: int = 0
    system_us: int = 0
    peak_rss_bytes: int = 0
    pid: int | None = None
    result: str | None = None
    error: AttemptError | str | None = None
    retry_at: dt.datetime | None = None
    is_final: bool = False
    crashed: bool = False
    interrupted: str = ""
    output: str = ""
    progress: str | None = None
    checkpoint: str | None = None


def judge(ended: Ended, jitter: float) -> Outcome:
    """Returns what is to be written about an attempt that ended.

    Args:
        ended: the attempt's end.
        jitter: from 0 to 1, by chance; it spreads the retries.
    """
    job = ended.job
    outcome = Outcome(
        id=job.id,
        attempt=job.attempt,
        claim_seq=job.claim_seq,
        duration_us=ended.duration_us,
        cpu_us=ended.cpu_us,
        system_us=ended.system_us,
        peak_rss_bytes=ended.peak_rss_bytes,
        pid=ended.pid,
        result=ended.result,
        error=ended.error.to_json() if isinstance(ended.error, AttemptError) else ended.error,
        crashed=ended.crashed,
        output=ended.output or None,
        progress=ended.progress,
        checkpoint=ended.checkpoint,
    )
    match ended.verdict:
        case Verdict.SUCCEEDED:
            outcome.state = JobState.COMPLETED
        case Verdict.RELEASED:
            outcome.state = JobState.AVAILABLE
            outcome.uncharged = True
        case Verdict.CANCELLED:
            outcome.state = JobState.CANCELLED
            outcome.cancel_reason = CancelReason.REQUESTED
        case Verdict.FAILED if ended.crashed and job.crashes + 1 >= POISON_CRASHES:
            outcome.state = JobState.CANCELLED
            outcome.cancel_reason = CancelReason.POISON
        case Verdict.FAILED if ended.is_final or job.charged >= job.max_attempts:
            outcome.state = JobState.CANCELLED
            outcome.cancel_reason = CancelReason.FAILED
        case Verdict.FAILED:
            outcome.state = JobState.SCHEDULED
            outcome.retry_at = ended.retry_at
            outcome.retry_in_s = backoff_s(job.charged, jitter)
    return outcome
