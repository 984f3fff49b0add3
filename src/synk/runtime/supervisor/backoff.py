"""What a loop does while the storage fails: it tells so once, and pauses for longer and longer.

What was wrong with the connection is over for all loops when it is over for one (`StorageLink`).
Two of them try about once a second for the others, the lease loop on a connection of its own and
maintenance on one of the pool; the others can therefore wait longer, so that a fleet does not storm
a server that starts.

And what is asked of it meanwhile: a statement that took too long is repeated with fewer jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.errors import StorageUnavailable
from synk.runtime.supervisor.jitter import jittered

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.telemetry import Telemetry

PAUSE_S: Final = 0.2
"""The pause after the first failure, at the most; each later one is twice as long."""

PAUSE_MAX_S: Final = 5.0

SCOUT_PAUSE_S: Final = 1.0
"""The longest pause of a loop that tries for the others too."""

REDUCED_S: Final = 30.0
"""How long a batch stays small after one that was too large; then it may be twice as large."""


class StorageLink:
    """What the loops of one supervisor have in common: the way to the storage.

    When one of them gets through, those that pause because they could not try at once.
    """

    def __init__(self) -> None:
        self._users: list[tuple[Backoff, Callable[[], None]]] = []

    def join(self, backoff: Backoff, wake: Callable[[], None]) -> None:
        """Has a loop hear of it; *wake* ends its pause, and is called from any thread."""
        self._users.append((backoff, wake))
        backoff.link = self

    def recovered(self, first: Backoff) -> None:
        """*first* got through."""
        for backoff, wake in self._users:
            if backoff is not first and backoff.is_unreachable:
                backoff.forget_failures()
                wake()


class Backoff:
    """One loop's failures at the storage: told when they begin and end, with growing pauses.

    Args:
        loop: whose it is.
        facts: told of it.
        is_scout: whether that loop never stops trying, and does so for the others too.
    """

    def __init__(self, loop: str, facts: Telemetry, *, is_scout: bool = False) -> None:
        self._loop = loop
        self._is_scout = is_scout
        self._facts = facts
        self._since: float | None = None
        self._failures = 0
        self.link: StorageLink | None = None
        self.is_unreachable = False
        """Whether the last try failed because the storage could not be asked."""

    @property
    def is_failing(self) -> bool:
        """Whether the last try failed."""
        return self._since is not None

    def failed(self, error: Exception, now: float) -> float:
        """Notes a failure; returns the seconds to pause."""
        if self._since is None:
            self._since = now
            self._facts.emit(telemetry.StorageFailing(self._loop, str(error)))
        self.is_unreachable = isinstance(error, StorageUnavailable)
        longest_s = SCOUT_PAUSE_S if self._is_scout else PAUSE_MAX_S
        pause_s = min(longest_s, PAUSE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        return jittered(pause_s, 0.5)

    def forget_failures(self) -> None:
        """Has the next pause be a short one: another loop got through."""
        self._failures = 0

    def succeeded(self, now: float) -> None:
        """Notes a success."""
        if self._since is not None:
            seconds = now - self._since
            was_unreachable, self.is_unreachable = self.is_unreachable, False
            self._since, self._failures = None, 0
            self._facts.emit(telemetry.StorageRecovered(self._loop, seconds))
            if was_unreachable and self.link is not None:
                self.link.recovered(self)


class BatchLimit:
    """How many jobs a statement may have: half as many for a while after each that was too many."""

    def __init__(self) -> None:
        self._most: int | None = None
        self._until = 0.0

    def of(self, wanted: int, now: float) -> int:
        """Returns how many of *wanted* may be asked for now."""
        if self._most is not None and now >= self._until:
            # Enough for what is wanted at the most: as before.
            self._most = None if self._most >= wanted else self._most * 2
            self._until = now + REDUCED_S
        return wanted if self._most is None else min(wanted, self._most)

    def was_too_much(self, count: int, now: float) -> None:
        """The storage gave up on a statement with so many."""
        self._most = max(1, count // 2)
        self._until = now + REDUCED_S
