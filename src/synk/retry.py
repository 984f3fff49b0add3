"""What follows from the end of an attempt: done, another try and when, or the end of the job."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from synk.claim import Outcome
from synk.row import CancelReason, JobState

if TYPE_CHECKING:
    from synk.claim import ClaimedJob

BACKOFF_BASE: Final = 4.0
"""Seconds before the second attempt; each later wait is this many times as long."""

BACKOFF_MAX_S: Final = 24 * 3600.0
POISON_CRASHES: Final = 3
"""Attempts that killed their worker process, or as many whose supervisor was lost, after which a
job is not tried again."""

SPREAD: Final = 0.1
"""By this part of it the wait is longer or shorter, by chance: jobs that failed together part."""


def backoff_s(charged: int) -> float:
    """Returns the seconds to wait after the attempt that was number *charged*, from 1, to count.

    4 s, 16 s, 64 s, 256 s, ... up to a day.
    """
    # The exponent is bounded first: 4.0 ** 1000 does not fit a float.
    return min(BACKOFF_MAX_S, BACKOFF_BASE ** min(charged, 16))


class Verdict(Enum):
    """What an attempt that did not simply succeed came to.

    Attributes:
        SUCCEEDED: the handler returned.
        FAILED: it raised, was killed, or died.
        CANCELLED: somebody cancelled the job while it ran.
        GAVE_UP: its handler cancelled it.
        SNOOZED: its handler wants to run again after a while: not charged.
        RELEASED: it never began, or an orderly shutdown ended it: not charged.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    GAVE_UP = "gave up"
    SNOOZED = "snoozed"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """The end of one attempt, as `judge` sees it.

    Attributes:
        job: the claim.
        verdict: what it came to.
        outcome: what is to be written about it.
        interrupted: why it goes back uncharged though it had begun; empty: it does not.
    """

    job: ClaimedJob
    verdict: Verdict
    outcome: Outcome
    interrupted: str = ""


def judge(
    job: ClaimedJob,
    verdict: Verdict,
    outcome: Outcome | None = None,
    *,
    is_final: bool = False,
    interrupted: str = "",
) -> EndedAttempt:
    """Says what becomes of a job whose attempt ended.

    That a success completes the job is the one verdict that nothing else is asked for. Plain ones,
    the many, are therefore made as the judge would leave them: see `core.verdicts.plain_success`.

    Args:
        job: the claim.
        verdict: what the attempt came to.
        outcome: what is known of it, to which what follows is added; None: nothing.
        is_final: whether another try would only repeat the failure.
        interrupted: why it goes back uncharged though it had begun.
    """
    if outcome is None:
        outcome = Outcome(job.id, job.attempt, job.claim_seq)
    match verdict:
        case Verdict.SUCCEEDED:
            outcome.state = JobState.COMPLETED
        case Verdict.RELEASED:
            outcome.state = JobState.AVAILABLE
            outcome.uncharged = True
        case Verdict.CANCELLED:
            outcome.state = JobState.CANCELLED
            outcome.cancel_reason = CancelReason.REQUESTED
        case Verdict.GAVE_UP:
            outcome.state = JobState.CANCELLED
            outcome.cancel_reason = CancelReason.HANDLER
        case Verdict.SNOOZED:
            # After no time at all it need not wait until those that are due are looked for.
            outcome.state = JobState.SCHEDULED if outcome.retry_in_s else JobState.AVAILABLE
            outcome.uncharged = True
        case Verdict.FAILED:
            _judge_failure(job, outcome, is_final=is_final)
    if outcome.state is not JobState.SCHEDULED:
        outcome.retry_at = None
    return EndedAttempt(job, verdict, outcome, interrupted)


def _judge_failure(job: ClaimedJob, outcome: Outcome, *, is_final: bool) -> None:
    if outcome.crashed and job.crashes + 1 >= POISON_CRASHES:
        outcome.state, outcome.cancel_reason = JobState.CANCELLED, CancelReason.POISON
    elif is_final or job.charged >= job.max_attempts:
        outcome.state, outcome.cancel_reason = JobState.CANCELLED, CancelReason.FAILED
    else:
        outcome.state = JobState.SCHEDULED
        outcome.retry_in_s = backoff_s(job.charged)
