"""Facts about jobs: how their attempts ended, and what else became of them."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from synk.retry import Verdict
from synk.row import JobState
from synk.telemetry.fact import Fact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.retry import EndedAttempt
    from synk.status import Rescued


class AttemptFact(Fact):
    """What facts about the end of an attempt have.

    Attributes:
        ended: the attempt, with the job, and with what becomes of it.
    """

    ended: EndedAttempt

    @property
    def fields(self) -> dict[str, object]:
        """The job and its attempt."""
        job = self.ended.job
        return {"job_id": job.id, "kind": job.kind, "queue": job.queue, "attempt": job.attempt}


class AttemptFailed(AttemptFact, level=logging.WARNING):
    """An attempt failed or was cancelled. If it was the last one, that is an error."""

    @property
    def severity(self) -> int:
        """ERROR where the job has failed for good, WARNING where it is tried again."""
        is_over = self.ended.outcome.state is JobState.CANCELLED
        is_final = self.ended.verdict is Verdict.FAILED and is_over
        return logging.ERROR if is_final else self.level

    @property
    def fields(self) -> dict[str, object]:
        """The job and its attempt, what the job is now, and the cause."""
        return {
            **super().fields,
            "max_attempts": self.ended.job.max_attempts,
            "state": self.ended.outcome.state.value,
            "cancel_reason": self.ended.outcome.cancel_reason,
            "cause": _cause(self.ended.outcome.error),
        }

    def __str__(self) -> str:
        job, outcome = self.ended.job, self.ended.outcome
        reason = f" ({outcome.cancel_reason})" if outcome.cancel_reason else ""
        return (
            f"job {job.id} ({job.kind}) attempt {job.charged}/{job.max_attempts} "
            f"{self.ended.verdict.value}, now {outcome.state.value}{reason}: "
            f"{headline(self.ended.outcome.error)}"
        )


class AttemptSucceeded(AttemptFact, level=logging.DEBUG):
    """An attempt succeeded; its outcome is about to be stored.

    It is made only if somebody has subscribed who wants to hear of successes.
    """

    @property
    def is_routine(self) -> bool:
        """It is."""
        return True

    def __str__(self) -> str:
        job, seconds = self.ended.job, self.ended.outcome.duration_us / 1e6
        return f"job {job.id} ({job.kind}) succeeded after {seconds:.3f} s"


class AttemptSnoozed(AttemptFact, level=logging.DEBUG):
    """A handler wants to run again after a while: `synk.Snooze`.

    A job that has done so 100 times, or 1,000, and so on, may wait for what never comes: of that
    all are told, as a warning. Of others those are who want to hear of successes.
    """

    @property
    def severity(self) -> int:
        """WARNING where it is the hundredth time, and so on."""
        return self.level if self.is_routine else logging.WARNING

    @property
    def is_routine(self) -> bool:
        """Whether it is neither the hundredth time nor the thousandth, and so on."""
        times = str(self.ended.outcome.snoozes or 0)
        return len(times) < 3 or times != "1".ljust(len(times), "0")

    @property
    def fields(self) -> dict[str, object]:
        """The job and its attempt, and how often it has snoozed."""
        return {**super().fields, "snoozes": self.ended.outcome.snoozes}

    def __str__(self) -> str:
        job, outcome = self.ended.job, self.ended.outcome
        return (
            f"job {job.id} ({job.kind}) snoozed for {outcome.retry_in_s or 0:g} s, "
            f"now {outcome.snoozes} times"
        )


class AttemptGaveUp(AttemptFact):
    """A handler cancelled its job: `synk.Cancel`."""

    @property
    def fields(self) -> dict[str, object]:
        """The job and its attempt, what the job is now and why, and what its handler said."""
        return {
            **super().fields,
            "state": self.ended.outcome.state.value,
            "cancel_reason": self.ended.outcome.cancel_reason,
            "error": headline(self.ended.outcome.error),
        }

    def __str__(self) -> str:
        job = self.ended.job
        return (
            f"job {job.id} ({job.kind}) was cancelled by its handler: "
            f"{headline(self.ended.outcome.error)}"
        )


class AttemptInterrupted(AttemptFact, level=logging.WARNING):
    """A running attempt was ended for no fault of its job, which goes back uncharged."""

    def __str__(self) -> str:
        job, seconds = self.ended.job, self.ended.outcome.duration_us / 1e6
        return (
            f"job {job.id} ({job.kind}) was killed after {seconds:.1f} s: "
            f"{self.ended.interrupted}; given back, uncharged"
        )


class OutcomeRefused(Fact, level=logging.WARNING):
    """An outcome was not applied: the job belongs to somebody else by now, or is gone.

    Attributes:
        job_id: the job.
        attempt: the number of the attempt.
        answer: the storage's answer: ``fenced`` or ``gone``.
    """

    line = "outcome of job {job_id} attempt {attempt} was refused: {answer}"
    job_id: int
    attempt: int
    answer: str

    @property
    def fields(self) -> dict[str, object]:
        """The job and its attempt."""
        return {"job_id": self.job_id, "attempt": self.attempt}


class OutcomeReduced(Fact, level=logging.ERROR):
    """The storage refuses a value of an outcome; its end is stored without that value.

    Attributes:
        job_id: the job.
        attempt: the number of the attempt.
        left_out: what is not stored: ``result``, ``output``, ...
        problem: what the storage says of it.
    """

    job_id: int
    attempt: int
    left_out: tuple[str, ...]
    problem: str

    def __str__(self) -> str:
        return (
            f"the storage refuses what job {self.job_id} attempt {self.attempt} left behind; its "
            f"end is stored without {' and '.join(self.left_out)}: {self.problem}"
        )


class OutcomesUnstored(Fact, level=logging.ERROR):
    """Outcomes could not be stored before the supervisor had to stop.

    Attributes:
        count: how many; those jobs run again.
    """

    line = "{count} outcomes could not be stored; those jobs run again"
    count: int


class JobsGivenBack(Fact):
    """Jobs that had not begun went back, uncharged, for others to run.

    Attributes:
        count: how many.
    """

    line = "gave back {count} jobs that had not begun"
    count: int


class JobsRescued(Fact, level=logging.WARNING):
    """Jobs were taken from supervisors that will never act again.

    Attributes:
        rescued: the attempts that were lost, and what the jobs are now.
    """

    rescued: Sequence[Rescued]

    def __str__(self) -> str:
        ids = ", ".join(str(each.job_id) for each in self.rescued[:10])
        more = ", ..." if len(self.rescued) > 10 else ""
        return f"took {len(self.rescued)} jobs from supervisors that are gone: {ids}{more}"


class JobsReconciled(Fact, level=logging.WARNING):
    """The storage and this supervisor disagreed about what it runs.

    Attributes:
        again: outcomes that the storage had lost: sent again.
        ghosts: claims whose answer was lost: given back, uncharged.
        strays: jobs that nobody here knew: given back, charged.
        gone: jobs that ran here and belong to somebody else, or to nobody: killed.
    """

    line = (
        "compared with the storage: {again} outcomes sent again, {ghosts} claims "
        "without an answer and {strays} unknown jobs given back, {gone} jobs killed "
        "that are not ours any more"
    )
    again: int
    ghosts: int
    strays: int
    gone: int


class JobsCleaned(Fact):
    """The cleaner removed finished jobs.

    Attributes:
        count: how many.
    """

    line = "the cleaner removed {count} finished jobs"
    count: int


class JobsExpired(Fact):
    """Jobs had not begun before the time that was set for that, and never will.

    Attributes:
        count: how many.
    """

    line = "{count} jobs expired: they had not begun before their start_before"
    count: int


def headline(error: str | None) -> str:
    """Returns the first line of what an attempt failed with.

    Args:
        error: its `AttemptError` as JSON text; None: it did not fail.
    """
    text = "" if error is None else str(json.loads(error).get("error", ""))
    return text.splitlines()[0][:300] if text else "-"


def _cause(error: str | None) -> str:
    return "-" if error is None else str(json.loads(error).get("cause", "-"))
