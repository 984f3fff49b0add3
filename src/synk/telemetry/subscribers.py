"""Who hears of facts: logging (`synk.telemetry.log`), and whoever else subscribed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.telemetry.fact import Fact


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
            successes: whether it wants an `AttemptSucceeded` for each success too, and an
                `AttemptSnoozed` for each job that snoozes.
        """
        self._subscribers.append(subscriber)
        if successes:
            self._of_successes.append(subscriber)

    def unsubscribe(self, subscriber: Callable[[Any], None]) -> None:
        """Does not call *subscriber* any more."""
        self._subscribers.remove(subscriber)
        if subscriber in self._of_successes:
            self._of_successes.remove(subscriber)

    def emit(self, fact: Fact) -> None:
        """Tells all of *fact*. A subscriber that raises is logged, and bothers nobody else."""
        for subscriber in tuple(self._of_successes if fact.is_routine else self._subscribers):
            try:
                subscriber(fact)
            except Exception:
                logging.getLogger("synk").exception("a telemetry subscriber failed on %r", fact)
