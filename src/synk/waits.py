"""How long the calls of a client wait, and when they try again.

An insert waits for a database that cannot be reached, the question where a job is for the answer of
the job's supervisor. Nothing sleeps here: the clients do, each in its own way.
"""

from __future__ import annotations

import logging
import random
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from synk.config import seconds_of
from synk.errors import ConfigurationError, OutcomeUnknown, StorageUnavailable
from synk.insertion import cannot_be_doubled

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from types import TracebackType

    from synk.insertion import NewJob

_PAUSE_S: Final = 0.1
"""The pause before the second try, at the most; each later one is twice as long."""

_PAUSE_MAX_S: Final = 2.0

_LOOK_S: Final = 0.05
"""The pause between two looks for an answer."""

_log = logging.getLogger("synk")

_until: ContextVar[float | None] = ContextVar("until", default=None)
"""When the wait of the insert ends that is under way here, by the monotonic clock."""


def left_s(most_s: float) -> float:
    """Returns how many seconds a connection may take: *most_s*, or what is left of a wait."""
    until = _until.get()
    return most_s if until is None else max(0.0, min(most_s, until - time.monotonic()))


class InsertWait:
    """The wait of one insert. Each try is made in it; where one fails, another may follow.

    Args:
        jobs: what is inserted.
        wait_s: how many seconds it may wait from now on; what was sent by then is waited for.

    Attributes:
        pause_s: the seconds to pause before the next try.
    """

    def __init__(self, jobs: Sequence[NewJob], wait_s: float) -> None:
        self._jobs = jobs
        self._wait_s = wait_s
        self._until = time.monotonic() + wait_s
        self._failures = 0
        self.pause_s = 0.0

    def __enter__(self) -> None:
        """Has a try wait for a connection no longer than there is left."""
        self._before = _until.set(self._until)

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> bool:
        """Takes an error after which another try may follow.

        What may be stored already is tried again only if it cannot be stored twice then.
        """
        _until.reset(self._before)
        left_s = self._until - time.monotonic()
        if not isinstance(error, StorageUnavailable) or left_s <= 0:
            return False
        if isinstance(error, OutcomeUnknown) and not cannot_be_doubled(self._jobs):
            return False
        if not self._failures:
            _log.warning("an insert waits up to %g s for the database: %s", self._wait_s, error)
        pause_s = min(_PAUSE_MAX_S, _PAUSE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        # By chance, so that not all producers come back in one instant.
        self.pause_s = min(left_s, pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        return True


def check_no_wait(connection: object | None, wait: dt.timedelta | None) -> None:
    """Checks that no wait is asked for in the caller's own transaction.

    Raises:
        ConfigurationError: one is.
    """
    if connection is not None and wait is not None:
        raise ConfigurationError(
            "wait", wait, "not with a connection: only its owner can repeat its transaction"
        )


class StackWait:
    """The wait of one question, from now on.

    Raises:
        ConfigurationError: *timeout* is no timedelta, or below zero.
    """

    def __init__(self, job_id: int, timeout: dt.timedelta) -> None:
        self._job_id = job_id
        self._timeout = timeout
        self._until = time.monotonic() + seconds_of("timeout", timeout)

    def pause_s(self) -> float:
        """Returns the seconds to pause before the next look for the answer.

        Raises:
            StorageUnavailable: it is too late for an answer.
        """
        if time.monotonic() > self._until:
            raise StorageUnavailable(
                f"the supervisor of job {self._job_id} did not answer within {self._timeout}; see "
                "whether it runs with `synk top`"
            )
        return _LOOK_S
