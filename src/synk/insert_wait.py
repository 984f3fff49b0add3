"""How long an insert waits for a database that cannot be reached, and when it is tried again."""

from __future__ import annotations

import logging
import random
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from synk.errors import OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from synk.errors import StorageUnavailable
    from synk.insertion import NewJob

_PAUSE_S: Final = 0.1
"""The pause before the second try, at the most; each later one is twice as long."""

_PAUSE_MAX_S: Final = 2.0

_log = logging.getLogger("synk")

_until: ContextVar[float | None] = ContextVar("until", default=None)
"""When the wait of the insert ends that is under way here, by the monotonic clock."""


def left_s(most_s: float) -> float:
    """Returns how many seconds a connection may take: *most_s*, or what is left of a wait."""
    until = _until.get()
    return most_s if until is None else max(0.0, min(most_s, until - time.monotonic()))


class InsertWait:
    """The wait of one insert.

    Args:
        jobs: what is inserted.
        wait_s: how many seconds it may wait from now on; what was sent by then is waited for.
    """

    def __init__(self, jobs: Sequence[NewJob], wait_s: float) -> None:
        self._jobs = jobs
        self._wait_s = wait_s
        self._until = time.monotonic() + wait_s
        self._failures = 0

    def pause_s(self, error: StorageUnavailable) -> float | None:
        """Returns the seconds to pause before the next try, or None if *error* is the answer.

        What may be stored already is tried again only if it cannot be stored twice then.
        """
        left_s = self._until - time.monotonic()
        if left_s <= 0 or (isinstance(error, OutcomeUnknown) and not self._is_repeatable):
            return None
        if not self._failures:
            _log.warning("an insert waits up to %g s for the database: %s", self._wait_s, error)
        pause_s = min(_PAUSE_MAX_S, _PAUSE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        # By chance, so that not all producers come back in one instant.
        return min(left_s, pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    @contextmanager
    def trying(self) -> Generator[None]:
        """Has a try wait for a connection no longer than there is left."""
        before = _until.set(self._until)
        try:
            yield
        finally:
            _until.reset(before)

    @property
    def _is_repeatable(self) -> bool:
        return all(job.options.idempotency_key is not None for job in self._jobs)
