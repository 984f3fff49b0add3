"""Facts about what a supervisor does, as frozen records, and who listens to them.

Business code emits; logging, the demo's view and tests subscribe. A subscriber must be quick: it is
called in the thread that emits.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.retry import Ended


@dataclass(frozen=True, slots=True)
class SupervisorStarted:
    """The supervisor begins to claim."""

    client_id: str
    processes: int
    queues: tuple[str, ...]
    database: str


@dataclass(frozen=True, slots=True)
class SupervisorDraining:
    """It was told to stop; running jobs have *seconds* left."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SupervisorStopped:
    """It has stopped; *unacknowledged* outcomes could not be stored, those jobs will run again."""

    unacknowledged: int


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt failed, was cancelled or was given back (plain successes are not reported)."""

    ended: Ended
    outcome_state: str


@dataclass(frozen=True, slots=True)
class OutcomeRefused:
    """An outcome was not applied: the job belongs to somebody else by now, or is gone."""

    job_id: int
    attempt: int
    answer: str


@dataclass(frozen=True, slots=True)
class StorageTrouble:
    """The storage cannot be used by one of the supervisor's loops; told once when it begins."""

    loop: str
    problem: str


@dataclass(frozen=True, slots=True)
class StorageRecovered:
    """It can again, after *seconds*."""

    loop: str
    seconds: float


@dataclass(frozen=True, slots=True)
class JobsCleaned:
    """The cleaner removed finished jobs."""

    count: int


class Telemetry:
    """Hands facts to whoever subscribed."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[[Any], None]] = []

    def subscribe(self, subscriber: Callable[[Any], None]) -> None:
        """Has *subscriber* called with every fact from now on."""
        self._subscribers.append(subscriber)

    def emit(self, fact: object) -> None:
        """Tells everybody. A subscriber that raises is logged, and bothers nobody else."""
        for subscriber in self._subscribers:
            try:
                subscriber(fact)
            except Exception:
                logging.getLogger("synk").exception("a telemetry subscriber failed on %r", fact)


def log_to(logger: logging.Logger) -> Callable[[object], None]:
    """Returns the subscriber that writes facts to *logger*, one line each."""

    def write(fact: object) -> None:
        match fact:
            case SupervisorStarted():
                logger.info(
                    "synk %s started: %d worker processes, queues %s, %s",
                    fact.client_id,
                    fact.processes,
                    ", ".join(fact.queues),
                    fact.database,
                )
            case SupervisorDraining():
                logger.info("draining: running jobs have %.0f s to finish", fact.seconds)
            case SupervisorStopped():
                _log_stop(logger, fact)
            case AttemptEnded():
                _log_attempt(logger, fact)
            case OutcomeRefused():
                logger.warning(
                    "outcome of job %d attempt %d was refused: %s",
                    fact.job_id,
                    fact.attempt,
                    fact.answer,
                )
            case StorageTrouble():
                logger.error("%s: %s; trying again", fact.loop, fact.problem)
            case StorageRecovered():
                logger.info("%s: the storage is back after %.1f s", fact.loop, fact.seconds)
            case JobsCleaned():
                logger.info("the cleaner removed %d finished jobs", fact.count)
            case _:
                logger.debug("%r", fact)

    return write


def _log_stop(logger: logging.Logger, fact: SupervisorStopped) -> None:
    if fact.unacknowledged:
        lost = "stopped with %d outcomes that could not be stored; those jobs run again"
        logger.error(lost, fact.unacknowledged)
    else:
        logger.info("stopped")


def _log_attempt(logger: logging.Logger, fact: AttemptEnded) -> None:
    job = fact.ended.job
    logger.warning(
        "job %d (%s) attempt %d/%d %s, now %s: %s",
        job.id,
        job.kind,
        job.charged,
        job.max_attempts,
        fact.ended.verdict.value,
        fact.outcome_state,
        headline(fact.ended.error),
    )


def headline(error: object) -> str:
    """Returns the first line of an `AttemptError`, or of its JSON text."""
    text = error if isinstance(error, str) else getattr(error, "error", "") or "-"
    if text.startswith("{"):
        # The record as JSON: only its headline is wanted, and only when something failed.
        import json  # noqa: PLC0415

        text = str(json.loads(text).get("error", "-"))
    return text.splitlines()[0][:300] if text else "-"
