"""What ends a worker whose supervisor, stopped perhaps, does not."""

from __future__ import annotations

import signal
import time
from typing import Final

DEAD_MAN_GRACE_S: Final = 5.0
"""After its timeout a worker ends by itself if its supervisor, stopped perhaps, did not end it."""

_DEAD_MAN_SLACK_S: Final = 1.0
"""A timer that is set once serves many short jobs."""

_DEAD_MAN_TOLERANCE_S: Final = 0.1
"""A timer that is off by more than this is not the one that was set."""


class DeadMansTimer:
    """Ends the process by SIGALRM when a job is far over its time, without any Python code.

    The supervisor kills long before; this is for one that is stopped or starved. A job that uses
    SIGALRM or ITIMER_REAL itself disarms it until it is over.
    """

    def __init__(self) -> None:
        self._expires_s: float | None = None

    def arm(self, now_s: float, timeout_s: float) -> None:
        """Sets it for a job that began at *now_s* and may take *timeout_s* seconds."""
        needed = now_s + timeout_s + DEAD_MAN_GRACE_S
        expires = self._expires_s
        if expires is None or not needed <= expires <= needed + _DEAD_MAN_SLACK_S:
            self._expires_s = needed + _DEAD_MAN_SLACK_S / 2
            signal.setitimer(signal.ITIMER_REAL, self._expires_s - now_s)

    def restore(self) -> None:
        """Takes off what a job has set in its place, so that it does not end one that follows."""
        left_s, again_s = signal.getitimer(signal.ITIMER_REAL)
        expected_s = 0.0 if self._expires_s is None else self._expires_s - time.monotonic()
        if again_s or abs(left_s - expected_s) > _DEAD_MAN_TOLERANCE_S:
            self._expires_s = None
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def rest(self) -> None:
        """Takes it off while there is no job."""
        if self._expires_s is not None:
            self._expires_s = None
            signal.setitimer(signal.ITIMER_REAL, 0.0)
