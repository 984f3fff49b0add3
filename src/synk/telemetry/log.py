"""Facts as lines of a log, written in a thread of its own: a log that nobody reads stops nobody.

A handler of `logging` writes in the thread that logs, and waits for as long as a full pipe is not
read. A supervisor that waits acknowledges nothing, kills nothing, and does not stop.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from synk.telemetry.fact import Fact

PENDING_MAX: Final = 1000
"""Facts that wait to be written at most; more are dropped, and counted."""


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


class LogThread:
    """A subscriber that hands facts to another one, later, and returns at once.

    The thread begins with the first fact and ends with `flush`; it begins again if need be.

    Args:
        write: writes one fact; may take any time.
        tell_dropped: writes how many were dropped.
    """

    def __init__(
        self, write: Callable[[Any], None], *, tell_dropped: Callable[[int], None]
    ) -> None:
        self._write = write
        self._tell_dropped = tell_dropped
        # Reentrant, since a signal handler may emit in the middle of `__call__`.
        self._condition = threading.Condition()
        self._facts: deque[Any] = deque()
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._ending = False

    @classmethod
    def to(cls, logger: logging.Logger) -> LogThread:
        """Returns one that writes to *logger*."""

        def tell_dropped(count: int) -> None:
            logger.warning("%d lines were dropped: the log is not read", count)

        return cls(log_to(logger), tell_dropped=tell_dropped)

    def __call__(self, fact: object) -> None:
        """Takes *fact*; returns at once."""
        with self._condition:
            if len(self._facts) >= PENDING_MAX:
                self._dropped += 1
                return
            self._facts.append(fact)
            if self._thread is None:
                self._ending = False
                self._thread = threading.Thread(target=self._run, name="synk-log", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def flush(self, timeout_s: float) -> None:
        """Has what waits written, and waits for that, but not for ever."""
        with self._condition:
            self._ending = True
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._thread is None, timeout_s)

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            fact, dropped = taken
            # What a user's handler raises is its own affair; `logging` has its say about it.
            with contextlib.suppress(Exception):
                if dropped:
                    self._tell_dropped(dropped)
                self._write(fact)

    def _next(self) -> tuple[Any, int] | None:
        with self._condition:
            while not self._facts:
                if self._ending:
                    self._thread = None
                    self._condition.notify_all()
                    return None
                self._condition.wait()
            dropped, self._dropped = self._dropped, 0
            return self._facts.popleft(), dropped
