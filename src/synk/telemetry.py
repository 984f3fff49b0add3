"""Facts about what a supervisor does, as frozen records, and who listens to them.

Business code emits; logging, the demo's view, tests and whoever counts subscribe, by
``client.telemetry.subscribe(function)``. A subscriber must be quick: it is called in the thread
that emits. Each fact is one line for an operator, knows its level, and has what a machine wants to
find as `fields`, which are attributes of its LogRecord.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from synk.retry import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from synk.retry import Ended
    from synk.status import Rescued


@dataclass_transform(frozen_default=True)
class Fact:
    """Something that happened. Each kind of fact is a frozen dataclass, and has a level."""

    level: ClassVar[int]

    @property
    def severity(self) -> int:
        """The level of this very fact, of those of `logging`."""
        return self.level

    @property
    def fields(self) -> dict[str, object]:
        """What it is about, by name."""
        return {}

    def __init_subclass__(cls, *, level: int = logging.INFO) -> None:
        dataclass(frozen=True)(cls)
        cls.level = level


class SupervisorStarted(Fact):
    """The supervisor begins to claim."""

    client_id: str
    processes: int
    queues: tuple[str, ...]
    database: str

    def __str__(self) -> str:
        queues = ", ".join(self.queues)
        return (
            f"synk {self.client_id} started: {self.processes} worker processes, queues {queues}, "
            f"{self.database}"
        )


class DrainTooLong(Fact, level=logging.WARNING):
    """The platform, by all that is known of it, kills this process before a drain is over."""

    drain_s: float
    platform: str
    setting: str
    """What the platform calls the time that it gives."""
    grace_s: float
    """That time: its default, or what the environment *variable* says."""
    variable: str
    last_s: float
    """What an end takes besides the drain."""

    def __str__(self) -> str:
        needed_s = self.drain_s + self.last_s
        return (
            f"drain_timeout is {self.drain_s:g} s, but {self.platform} kills this process after "
            f"{self.grace_s:g} s: raise {self.setting} to {needed_s:g} and say so by "
            f"{self.variable}={needed_s:g}, or set drain_timeout to "
            f"{max(0.0, self.grace_s - self.last_s):g} s at most"
        )


class WorkersDoubted(Fact, level=logging.WARNING):
    """How the worker processes begin may be trouble."""

    what: str

    def __str__(self) -> str:
        return self.what


class SupervisorDraining(Fact):
    """It was told to stop; running jobs have *seconds* left."""

    seconds: float

    def __str__(self) -> str:
        return f"draining: claims no more; running jobs have {self.seconds:.0f} s to finish"


class JobsGivenBack(Fact):
    """Jobs that had not begun went back, uncharged, for others to run."""

    count: int

    def __str__(self) -> str:
        return f"gave back {self.count} jobs that had not begun"


class AttemptInterrupted(Fact, level=logging.WARNING):
    """A running attempt was ended for no fault of its job, which goes back uncharged."""

    ended: Ended

    def __str__(self) -> str:
        job, seconds = self.ended.job, self.ended.duration_us / 1e6
        return (
            f"job {job.id} ({job.kind}) was killed after {seconds:.1f} s: "
            f"{self.ended.interrupted}; given back, uncharged"
        )

    @property
    def fields(self) -> dict[str, object]:
        """The job and its attempt."""
        return _fields_of(self.ended)


class SupervisorFlushing(Fact):
    """All of its processes have ended; *count* outcomes wait to be stored."""

    count: int

    def __str__(self) -> str:
        return f"all workers have ended; {self.count} outcomes are still to be stored"


class OutcomesUnstored(Fact, level=logging.ERROR):
    """Outcomes could not be stored before the supervisor had to stop."""

    count: int

    def __str__(self) -> str:
        return f"{self.count} outcomes could not be stored; those jobs run again"


class SupervisorStopped(Fact):
    """It has stopped; *unacknowledged* outcomes could not be stored."""

    unacknowledged: int

    def __str__(self) -> str:
        return "stopped"


class AttemptEnded(Fact, level=logging.WARNING):
    """An attempt failed or was cancelled. If it was the last one, that is an error."""

    ended: Ended
    outcome_state: str
    cancel_reason: str = ""
    """Why the job is over, if so."""

    @property
    def severity(self) -> int:
        """ERROR where the job has failed for good, WARNING where it is tried again."""
        is_final = self.ended.verdict is Verdict.FAILED and self.outcome_state == "cancelled"
        return logging.ERROR if is_final else self.level

    @property
    def fields(self) -> dict[str, object]:
        """The job and its attempt, what the job is now, and the cause."""
        return {
            **_fields_of(self.ended),
            "max_attempts": self.ended.job.max_attempts,
            "state": self.outcome_state,
            "cancel_reason": self.cancel_reason or None,
            "cause": _cause(self.ended.error),
        }

    def __str__(self) -> str:
        job = self.ended.job
        reason = f" ({self.cancel_reason})" if self.cancel_reason else ""
        return (
            f"job {job.id} ({job.kind}) attempt {job.charged}/{job.max_attempts} "
            f"{self.ended.verdict.value}, now {self.outcome_state}{reason}: "
            f"{headline(self.ended.error)}"
        )


class AttemptSucceeded(Fact, level=logging.DEBUG):
    """An attempt succeeded; its outcome is about to be stored.

    It is made only if somebody has subscribed who wants to hear of successes.
    """

    ended: Ended

    @property
    def fields(self) -> dict[str, object]:
        """The job and its attempt."""
        return _fields_of(self.ended)

    def __str__(self) -> str:
        job = self.ended.job
        return f"job {job.id} ({job.kind}) succeeded after {self.ended.duration_us / 1e6:.3f} s"


class OutcomeRefused(Fact, level=logging.WARNING):
    """An outcome was not applied: the job belongs to somebody else by now, or is gone."""

    job_id: int
    attempt: int
    answer: str

    @property
    def fields(self) -> dict[str, object]:
        """The job and its attempt."""
        return {"job_id": self.job_id, "attempt": self.attempt}

    def __str__(self) -> str:
        return f"outcome of job {self.job_id} attempt {self.attempt} was refused: {self.answer}"


class OutcomeReduced(Fact, level=logging.ERROR):
    """The storage refuses a value of an outcome; its end is stored without that value."""

    job_id: int
    attempt: int
    left_out: tuple[str, ...]
    problem: str

    def __str__(self) -> str:
        return (
            f"the storage refuses what job {self.job_id} attempt {self.attempt} left behind; its "
            f"end is stored without {' and '.join(self.left_out)}: {self.problem}"
        )


class LeaseOver(Fact, level=logging.ERROR):
    """The lease could not be renewed in time: no job runs until it is."""

    def __str__(self) -> str:
        return (
            "the lease could not be renewed in time: running jobs are killed, and nothing is "
            "claimed until the database answers again"
        )


class LeaseBack(Fact):
    """The lease is renewed after all; the supervisor goes on."""

    def __str__(self) -> str:
        return "the lease is renewed: claiming again"


class LeaseGone(Fact, level=logging.ERROR):
    """The lease can never be renewed again: the supervisor begins anew under another id."""

    reason: str

    def __str__(self) -> str:
        return f"the lease is lost: {self.reason}; beginning anew"


class SupervisorLost(Fact, level=logging.WARNING):
    """Another supervisor did not renew its lease, and was declared dead."""

    owner: str

    def __str__(self) -> str:
        return f"supervisor {self.owner} is declared dead: its lease ran out"


class JobsRescued(Fact, level=logging.WARNING):
    """Jobs were taken from supervisors that will never act again."""

    rescued: Sequence[Rescued]

    def __str__(self) -> str:
        ids = ", ".join(str(each.job_id) for each in self.rescued[:10])
        more = ", ..." if len(self.rescued) > 10 else ""
        return f"took {len(self.rescued)} jobs from supervisors that are gone: {ids}{more}"


class JobsReconciled(Fact, level=logging.WARNING):
    """The storage and this supervisor disagreed about what it runs."""

    again: int
    """Outcomes that the storage had lost: sent again."""
    ghosts: int
    """Claims whose answer was lost: given back, uncharged."""
    strays: int
    """Jobs that nobody here knew: given back, charged."""
    gone: int
    """Jobs that ran here and belong to somebody else, or to nobody: killed."""

    def __str__(self) -> str:
        return (
            f"compared with the storage: {self.again} outcomes sent again, {self.ghosts} claims "
            f"without an answer and {self.strays} unknown jobs given back, {self.gone} jobs killed "
            "that are not ours any more"
        )


class StorageClockStepped(Fact, level=logging.WARNING):
    """The storage's clock was set, by so many seconds, as far as this machine's can tell."""

    seconds: float

    def __str__(self) -> str:
        return f"the storage's clock was set by {self.seconds:+.1f} s"


class StorageTrouble(Fact, level=logging.ERROR):
    """The storage cannot be used by one of the supervisor's loops; told once when it begins."""

    loop: str
    problem: str

    def __str__(self) -> str:
        return f"{self.loop}: {self.problem}; trying again"


class StorageRecovered(Fact):
    """It can again, after *seconds*."""

    loop: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.loop}: the storage is back after {self.seconds:.1f} s"


class LoopStalled(Fact, level=logging.ERROR):
    """The supervisor's loop has not turned for *seconds*: what is over its time is killed late."""

    seconds: float
    place: str
    """Where in the code it is."""

    def __str__(self) -> str:
        return (
            f"the supervisor's loop has stood still for {self.seconds:.1f} s in {self.place}: jobs "
            "over their time are killed late. Make telemetry subscribers quick, or give this "
            "process more CPU"
        )


class LoopResumed(Fact, level=logging.WARNING):
    """It turns again, after *seconds*."""

    seconds: float

    def __str__(self) -> str:
        return f"the supervisor's loop turns again after {self.seconds:.1f} s"


class JobsCleaned(Fact):
    """The cleaner removed finished jobs."""

    count: int

    def __str__(self) -> str:
        return f"the cleaner removed {self.count} finished jobs"


class Telemetry:
    """Hands facts to whoever subscribed."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[[Any], None]] = []
        self._of_successes: list[Callable[[Any], None]] = []

    @property
    def wants_successes(self) -> bool:
        """Whether there is anybody to tell of each success."""
        return bool(self._of_successes)

    def subscribe(self, subscriber: Callable[[Any], None], *, successes: bool = True) -> None:
        """Has *subscriber* called with every fact from now on.

        Args:
            subscriber: must be quick; it is called in the supervisor's own threads.
            successes: whether it wants an `AttemptSucceeded` for each success too.
        """
        self._subscribers.append(subscriber)
        if successes:
            self._of_successes.append(subscriber)

    def unsubscribe(self, subscriber: Callable[[Any], None]) -> None:
        """Does not call it any more."""
        self._subscribers.remove(subscriber)
        if subscriber in self._of_successes:
            self._of_successes.remove(subscriber)

    def emit(self, fact: Fact) -> None:
        """Tells everybody. A subscriber that raises is logged, and bothers nobody else."""
        of_success = isinstance(fact, AttemptSucceeded)
        for subscriber in tuple(self._of_successes if of_success else self._subscribers):
            try:
                subscriber(fact)
            except Exception:
                logging.getLogger("synk").exception("a telemetry subscriber failed on %r", fact)


def log_to(logger: logging.Logger) -> Callable[[Fact], None]:
    """Returns the subscriber that writes facts to *logger*, one line each."""

    def write(fact: Fact) -> None:
        level = fact.severity
        if logger.isEnabledFor(level):
            try:
                logger.log(level, "%s", fact, extra=fact.fields)
            except KeyError:
                # The program's own record factory has given one of these names a meaning.
                logger.log(level, "%s", fact)

    return write


def _fields_of(ended: Ended) -> dict[str, object]:
    job = ended.job
    return {"job_id": job.id, "kind": job.kind, "queue": job.queue, "attempt": job.attempt}


def _cause(error: object) -> str:
    """Returns the cause of an `AttemptError`, or of its JSON text."""
    if isinstance(error, str):
        return str(json.loads(error).get("cause", "-"))
    return str(getattr(error, "cause", "-"))


def headline(error: object) -> str:
    """Returns the first line of an `AttemptError`, or of its JSON text."""
    text = error if isinstance(error, str) else getattr(error, "error", "") or "-"
    if text.startswith("{"):
        text = str(json.loads(text).get("error", "-"))
    return text.splitlines()[0][:300] if text else "-"
