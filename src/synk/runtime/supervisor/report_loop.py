"""The loop that tells the storage what runs, for people who look at it.

About once a second while something runs it stores what all jobs have noted with one statement, and
what the workers do with another. Where a running job is in its code is looked up on request.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.errors import SynkError
from synk.runtime.supervisor.backoff import Backoff
from synk.runtime.supervisor.jitter import jittered
from synk.runtime.supervisor.stacks import StackQuestions
from synk.runtime.supervisor.worker_status import Watch
from synk.status import RecentError
from synk.storage.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.runtime.supervisor.engine import Engine
    from synk.status import ClientStatus
    from synk.storage.base import Storage
    from synk.telemetry import Telemetry

WATCH_S: Final = 1.0
"""Between two looks while something runs."""

IDLE_S: Final = 5.0
"""Between two reports while nothing does."""

FORGET_S: Final = 3600.0
"""Between two removals of what nobody looks at any more."""

ERRORS_KEPT: Final = 5

_PATIENCE_S: Final = 0.1
"""From an announcement to the look that serves it and all others that come meanwhile."""


class ReportLoop:
    """Reports what runs, and has questions answered where it is.

    It is woken where somebody has asked for something.
    """

    def __init__(
        self,
        storage: Storage,
        engine: Engine,
        status: ClientStatus,
        facts: Telemetry,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._status = status
        self._watch = Watch()
        self._stacks = (
            StackQuestions(storage, engine, status.id) if isinstance(storage, Inspection) else None
        )
        """None: nobody can ask."""
        self.backoff = Backoff("reporting", facts)
        self._errors: deque[tuple[float, telemetry.AttemptFailed]] = deque(maxlen=ERRORS_KEPT)
        self._is_finishing = False
        self._was_busy = False
        self._look_at = 0.0
        self._report_at = 0.0
        self._clock = clock
        self._forget_at = clock() + WATCH_S

    def note(self, fact: telemetry.Fact) -> None:
        """Remembers the last failed attempts; a subscriber of the telemetry."""
        if isinstance(fact, telemetry.AttemptFailed):
            self._errors.append((self._clock(), fact))

    def finish(self) -> None:
        """Has the next step be the last, which says so to the storage."""
        self._is_finishing = True

    def step(self, now: float) -> float:
        """Does what is due; returns the seconds until the next step."""
        if self._is_finishing:
            self._say_stopped(now)
            return math.inf
        try:
            if now >= self._look_at:
                self._look(now)
            elif not (self._stacks and self._stacks.are_open):
                # Woken: whoever else asks in this moment is served by the same look.
                self._look_at = min(self._look_at, now + _PATIENCE_S)
            answer_s = self._stacks.step(now) if self._stacks else math.inf
        except SynkError as error:
            self._look_at = now + self.backoff.failed(error, now)
            return self._look_at - now
        return min(max(0.0, self._look_at - now), answer_s)

    def _look(self, now: float) -> None:
        if self._stacks:
            self._stacks.look(now)
        self._report_if_due(now)
        self.backoff.succeeded(now)
        self._look_at = now + jittered(WATCH_S, 0.1)

    def _report_if_due(self, now: float) -> None:
        is_busy = any(slot.in_flight for slot in self._engine.pool.slots)
        if is_busy or self._was_busy or now >= self._report_at:
            self._report()
            self._report_at = now + IDLE_S
        self._was_busy = is_busy
        if now >= self._forget_at:
            self._forget_at = now + FORGET_S
            self._storage.forget_clients()

    def _report(self) -> None:
        """Stores progress and status."""
        seen = self._engine.ask(lambda processes: self._watch.look(processes, self._engine.pool))
        if seen is None:
            return
        slots, progress = seen
        if progress:
            self._storage.save_progress(self._status.id, progress)
        self._storage.report_client(
            dataclasses.replace(self._status, slots=slots, errors=self._recent_errors())
        )

    def _say_stopped(self, now: float) -> None:
        try:
            self._storage.report_client(
                dataclasses.replace(self._status, errors=self._recent_errors(), stopped=True)
            )
        except SynkError as error:
            self.backoff.failed(error, now)

    def _recent_errors(self) -> list[RecentError]:
        now = self._clock()
        return [
            RecentError(
                job_id=fact.ended.job.id,
                attempt=fact.ended.job.attempt,
                kind=fact.ended.job.kind,
                error=telemetry.headline(fact.ended.outcome.error),
                seconds=now - at,
            )
            for at, fact in tuple(self._errors)
        ]
