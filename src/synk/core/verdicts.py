"""What the end of an attempt means, in words for the person who reads the record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synk.claim import Outcome
from synk.core import stack_text, wire
from synk.core.messages import KillReason
from synk.failure import AttemptError, Cause, with_output
from synk.retry import EndedAttempt, Verdict, judge
from synk.row import JobState

if TYPE_CHECKING:
    from synk.claim import ClaimedJob
    from synk.core.messages import Exit, Measure, Reply

_NO_STACK: Final = (
    "no stack: the process wrote none in time; its job may have blocked or taken over SIGUSR2, "
    "closed descriptors, or been stuck in the kernel"
)

_STACK: Final = "SIGUSR2"
"""What a worker that is killed dies of where it could write its stack before."""

_ALARM: Final = "SIGALRM"
"""A worker's own timer ends it so when its supervisor does not: see `worker.dead_mans_timer`."""


def ended_by_reply(
    job: ClaimedJob, reply: Reply, measure: Measure, pid: int | None
) -> EndedAttempt:
    """The worker itself said how it went."""
    outcome = plain_success(job, measure, pid)
    outcome.result = reply.result
    outcome.progress, outcome.checkpoint = reply.progress, reply.checkpoint
    if reply.error is None:
        outcome.output = reply.output or None
        if reply.snooze_s is None:
            return judge(job, Verdict.SUCCEEDED, outcome)
        outcome.retry_in_s, outcome.snoozes = reply.snooze_s, reply.snoozes
        return judge(job, Verdict.SNOOZED, outcome)
    outcome.error = with_output(reply.error, reply.output)
    outcome.retry_at = reply.retry_at
    verdict = Verdict.CANCELLED if reply.cancelled else Verdict.FAILED
    if reply.gave_up and not reply.cancelled:
        verdict = Verdict.GAVE_UP
    return judge(job, verdict, outcome, is_final=reply.is_final)


def plain_success(job: ClaimedJob, measure: Measure, pid: int | None) -> Outcome:
    """The attempt is over, and nobody says that it did not succeed: as `judge` would leave it."""
    duration_us, cpu_us, system_us, peak = measure
    return Outcome(
        job.id,
        job.attempt,
        job.claim_seq,
        JobState.COMPLETED,
        duration_us,
        cpu_us,
        system_us,
        peak,
        pid,
    )


def ended_by_death(
    job: ClaimedJob, reason: KillReason | None, exit_: Exit, ran_s: float, limit: str
) -> EndedAttempt:
    """The process that ran the job is gone, by our decision (*reason*) or by itself (None).

    Args:
        job: what it ran.
        reason: why it was killed.
        exit_: how it ended.
        ran_s: for how long the job had run.
        limit: the limit that was hit, in words.
    """
    outcome = plain_success(job, (round(ran_s * 1e6), *exit_.usage), exit_.pid)
    outcome.progress, outcome.checkpoint = exit_.progress, exit_.checkpoint
    if exit_.engine_failed or reason in NOT_ITS_DOING:
        why = NOT_ITS_DOING.get(reason) or exit_.problem or "its supervisor broke down"
        return judge(job, Verdict.RELEASED, outcome, interrupted=why)
    cause, text = _why(reason, exit_, ran_s, limit)
    outcome.error = _record(job, cause, text, reason, exit_, ran_s).to_json()
    outcome.crashed = reason is None and cause is not Cause.TIMEOUT
    return judge(job, Verdict.CANCELLED if cause is Cause.CANCELLED else Verdict.FAILED, outcome)


def _record(
    job: ClaimedJob, cause: Cause, text: str, reason: KillReason | None, exit_: Exit, ran_s: float
) -> AttemptError:
    is_killed = reason is not None and exit_.signal == _STACK
    cpu_us, system_us, peak_rss_bytes = exit_.usage
    return AttemptError(
        attempt=job.attempt,
        error=text + _place(exit_.stack),
        cause=cause,
        # What a kill looks like to others; that it was asked for its stack first is our affair.
        trace=exit_.stack or ("" if reason is None else _NO_STACK),
        exit_code=exit_.code if exit_.signal is None else None,
        signal="SIGKILL" if is_killed else exit_.signal,
        duration_s=ran_s,
        cpu_s=cpu_us / 1e6,
        system_s=system_us / 1e6,
        peak_rss_bytes=peak_rss_bytes or None,
        output=exit_.output,
        pid=exit_.pid,
        host=exit_.host,
        supervisor=exit_.supervisor,
    )


_DECIDED: Final = {
    KillReason.TIMEOUT: (Cause.TIMEOUT, ""),
    KillReason.MEMORY: (Cause.MEMORY, ""),
    KillReason.CANCELLED: (Cause.CANCELLED, "cancel was requested"),
    KillReason.LEASE: (Cause.LOST, "its supervisor could not renew its lease"),
    KillReason.DISOWNED: (Cause.LOST, "the job is not its supervisor's any more"),
}
"""What a kill means, and its reason where that is no limit."""


NOT_ITS_DOING: Final[dict[KillReason | None, str]] = {
    KillReason.SHUTDOWN: "its time was over at a shutdown",
    KillReason.START: "its worker was too long in starting",
    KillReason.DEAF: "its worker was too long in beginning it",
}
"""Kills that no job is to blame for, also if one ran by then."""


def _why(reason: KillReason | None, exit_: Exit, ran_s: float, limit: str) -> tuple[Cause, str]:
    if reason is not None and reason in _DECIDED:
        cause, why = _DECIDED[reason]
        return cause, f"killed after {ran_s:.1f} s: {why or limit}"
    if exit_.signal == _ALARM and limit:
        return Cause.TIMEOUT, f"ended by its worker's own timer after {ran_s:.1f} s: {limit}"
    if exit_.signal == "SIGKILL" and exit_.problem:
        return Cause.EXIT, f"its worker process was killed after {ran_s:.1f} s: {exit_.problem}"
    return death(exit_, "its worker process", f" after {ran_s:.1f} s")


def ended_unseen(job: ClaimedJob, cause: Cause, text: str) -> EndedAttempt:
    """No worker here ran it: it was cancelled before that, or nobody knows what became of it."""
    error = AttemptError(attempt=job.attempt, error=text, cause=cause).to_json()
    outcome = Outcome(job.id, job.attempt, job.claim_seq, error=error)
    return judge(job, Verdict.CANCELLED if cause is Cause.CANCELLED else Verdict.FAILED, outcome)


def time_limit(job: ClaimedJob, own_s: float | None, queue_s: float) -> str:
    """Says which time limit holds for a job: its worker's own, or its queue's."""
    if own_s is not None:
        return f"the timeout of its worker is {own_s:g} s"
    return f"the timeout of queue {job.queue} is {queue_s:g} s"


def memory_limit(
    job: ClaimedJob, used: int, own: int | None, of_kind: int | None, of_queue: int | None
) -> str:
    """Says which memory limit was passed, and by how much."""
    if own is not None:
        whose, most = "max_rss of its worker", own
    elif of_kind is not None:
        whose, most = f"memory of kind {job.kind}", of_kind
    else:
        whose, most = f"max_rss of queue {job.queue}", of_queue or 0
    return f"it used {used / 1e6:.0f} MB of memory, {whose} is {most / 1e6:.0f} MB"


def death(exit_: Exit, who: str, after: str = "") -> tuple[Cause, str]:
    """Returns how a worker process ended that nobody killed, and what that was to its job."""
    if exit_.signal == "SIGKILL" and exit_.by_kernel:
        return Cause.MEMORY, (
            f"{who} was killed{after}, most likely by the kernel for want of memory: the control "
            "group counts an oom_kill since"
        )
    if exit_.signal == "SIGKILL":
        return Cause.SIGNAL, (
            f"{who} died of SIGKILL{after}, which synk did not send; where memory is short this is "
            "the kernel's doing"
        )
    if exit_.signal is not None:
        return Cause.SIGNAL, f"{who} died of {exit_.signal}{after}"
    if exit_.code is None:
        return Cause.EXIT, f"{who} vanished{after}"
    if exit_.code == wire.CHANNEL_LOST:
        return Cause.EXIT, f"it closed the descriptors of its worker process{after}"
    return Cause.EXIT, f"{who} exited with status {exit_.code}{after}"


def _place(stack: str) -> str:
    place = stack_text.place(stack)
    return f"; it was in {place}" if place else ""
