"""What the end of an attempt means, in words for the person who reads the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synk.core.messages import KillReason
from synk.failure import AttemptError, Cause
from synk.retry import Ended, Verdict

if TYPE_CHECKING:
    from synk.core.messages import Exit, Reply
    from synk.job import ClaimedJob


def ended_by_reply(job: ClaimedJob, reply: Reply, wall_us: int, cpu_us: int) -> Ended:
    """The worker itself said how it went."""
    return Ended(
        job,
        Verdict.SUCCEEDED if reply.error is None else Verdict.FAILED,
        duration_us=wall_us,
        cpu_us=cpu_us,
        result=reply.result,
        error=reply.error,
        retry_at=reply.retry_at,
    )


def ended_by_death(
    job: ClaimedJob, reason: KillReason | None, exit_: Exit, ran_s: float, timeout_s: float
) -> Ended:
    """The process that ran the job is gone, by our decision (*reason*) or by itself (None)."""
    duration_us = round(ran_s * 1e6)
    match reason:
        case KillReason.SHUTDOWN | KillReason.START:
            return Ended(job, Verdict.RELEASED, duration_us=duration_us)
        case KillReason.CANCELLED:
            verdict, cause = Verdict.CANCELLED, Cause.CANCELLED
            text = f"killed after {ran_s:.1f} s: cancel was requested"
        case KillReason.TIMEOUT:
            verdict, cause = Verdict.FAILED, Cause.TIMEOUT
            text = f"killed after {ran_s:.1f} s: its timeout is {timeout_s:g} s"
        case None:
            verdict, cause = Verdict.FAILED, Cause.EXIT if exit_.signal is None else Cause.SIGNAL
            text = _death_text(exit_, ran_s)
    error = AttemptError(
        attempt=job.attempt,
        error=text,
        cause=cause,
        trace=exit_.stack,
        exit_code=exit_.code if exit_.signal is None else None,
        signal=exit_.signal,
        duration_s=ran_s,
        pid=exit_.pid,
    )
    return Ended(job, verdict, duration_us=duration_us, error=error)


def cancelled_error(job: ClaimedJob) -> AttemptError:
    """The record of an attempt that was cancelled before it began."""
    return AttemptError(
        attempt=job.attempt, error="cancelled before it began", cause=Cause.CANCELLED
    )


def _death_text(exit_: Exit, ran_s: float) -> str:
    if exit_.signal is not None:
        return f"its worker process died of {exit_.signal} after {ran_s:.1f} s"
    if exit_.code is None:
        return f"its worker process vanished after {ran_s:.1f} s"
    return f"its worker process exited with status {exit_.code} after {ran_s:.1f} s"
