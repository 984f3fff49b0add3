"""Somebody who pauses and resumes the queue by the way, and what must not happen meanwhile."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random
from typing import Any, Final

from simulation.ledger import Ledger
from simulation.line import Line
from simulation.schedule import Schedule
from support.checking import Execution
from synk.errors import PauseNotInForce, StorageUnavailable
from synk.queue_steps import Ask, pausing, saying
from synk.queue_words import ALL, PAUSED, QueueWords

QUEUE: Final = "default"
RESTS_S: Final = (0.5, 6.0)
LOOK_S: Final = 1.0


class Operator:
    """Pauses the queue, waits until that is in force, and resumes it, now and then.

    Args:
        until: when it is resumed for good.
        note: told what is done.
        at: when it is paused, once, and waited for; None: now and then.
    """

    def __init__(
        self,
        schedule: Schedule,
        ledger: Ledger,
        line: Line,
        chance: Random,
        *,
        until: float,
        note: Callable[[str], None],
        at: float | None = None,
    ) -> None:
        self._schedule = schedule
        self._ledger = ledger
        self._line = line
        self._chance = chance
        self._until = until
        self._note = note
        self.counts: Counter[str] = Counter()
        self._quiet: list[list[float]] = []
        """From when to when nothing may begin."""
        self._ended_at = -math.inf
        """When the queue was seen to be not paused any more."""
        self._is_paused = False
        self.is_off = False
        """Whether it does nothing, now and later."""
        self._is_planned = at is not None
        ledger.on_settings = self._on_settings
        if at is None:
            self._later(self._pause)
        else:
            schedule.at(at, self._pause)

    def _later(self, what: Callable[[], None]) -> None:
        self._schedule.after(self._chance.uniform(*RESTS_S), what)

    def _on_settings(self) -> None:
        """Settings were changed, by a message of long ago perhaps; or a fail-over has lost some."""
        words = QueueWords(self._ledger.storage.settings())
        is_paused = words.paused(QUEUE, None) is not None
        if self._is_paused and not is_paused:
            self._ended_at = self._schedule.now
            for quiet in self._quiet:
                quiet[1] = min(quiet[1], self._schedule.now)
        self._is_paused = is_paused

    def _pause(self) -> None:
        if self.is_off:
            return
        if self._schedule.now > self._until:
            self._resume()
            return
        began = self._schedule.now
        wait_s = 60.0 if self._is_planned else self._chance.uniform(0.5, 20.0)
        wait = timedelta(seconds=wait_s)
        queue = self._chance.choice([QUEUE, QUEUE, ALL])
        steps = pausing(queue, wait=wait, supervisor=None, by="o", clock=lambda: self._schedule.now)

        def over(is_in_force: bool) -> None:
            if is_in_force and self._is_paused and self._ended_at < began:
                self._quiet.append([self._schedule.now, math.inf])
                self._note("the pause is in force")
                self.counts["pauses in force"] += 1
            else:
                self.counts["pauses in vain"] += 1
            if self._is_planned:
                self._schedule.at(self._until, self._resume)
            else:
                self._later(self._resume)

        self._note(f"{queue} is paused, waiting for {wait.total_seconds():.1f} s")
        self._go_on(steps, None, over)

    def _resume(self) -> None:
        def over(_: bool) -> None:
            if self._schedule.now < self._until:
                self._later(self._pause)
            else:
                self._schedule.after(LOOK_S, self._resume_if_paused)

        self._note("the queue is resumed")
        self._go_on(saying(PAUSED, False, ALL, supervisor=None, by="o"), None, over)

    def _resume_if_paused(self) -> None:
        """At the end, until it is so: the message, or one of before, may have been lost or late."""
        if self._ledger.storage.settings().rows:
            self._resume()
        else:
            self._schedule.after(LOOK_S, self._resume_if_paused)

    def _go_on(self, steps: Any, answer: Any, over: Callable[[bool], None]) -> None:
        """Takes a step after the other, each as an event of its own: others' waits go on."""
        try:
            step = steps.send(answer)
            if isinstance(step, Ask):
                answer = getattr(self._line, step.name)(*step.given)
                self._schedule.after(0.0, lambda: self._go_on(steps, answer, over))
            else:
                self._schedule.after(step, lambda: self._go_on(steps, None, over))
        except StopIteration:
            over(True)
        except (StorageUnavailable, PauseNotInForce) as error:
            self._note(f"in vain: {error}")
            over(False)

    # -- the promise ------------------------------------------------------------------------------

    def broken_by(self, executions: Sequence[Execution]) -> list[Execution]:
        """Returns what began while nothing could begin any more, as was said."""
        return [
            each
            for each in executions
            if any(since < each.began < until for since, until in self._quiet)
        ]
