"""How starts of worker processes went, and when the next one is tried after a failure."""

from __future__ import annotations

from typing import Final

START_FAILURES_MAX: Final = 5
"""Deaths at start in a row before the pool gives up, if no worker was ever ready. If one was, this
is a passing trouble: the pool goes on trying, ever more rarely."""

_PAUSE_S: Final = 0.1
_PAUSE_MAX_S: Final = 10.0


class Starts:
    """Counts failures in a row, of all slots together."""

    def __init__(self) -> None:
        self._failures = 0
        self._has_succeeded = False

    @property
    def are_hopeless(self) -> bool:
        """Whether it is time to give up: true once, after the last failure that was borne."""
        return not self._has_succeeded and self._failures == START_FAILURES_MAX

    def succeeded(self) -> None:
        """A worker is ready."""
        self._failures = 0
        self._has_succeeded = True

    def failed(self) -> float:
        """A worker died before it was ready; returns how long to wait before the next start."""
        self._failures += 1
        return min(_PAUSE_MAX_S, _PAUSE_S * 2**self._failures)
