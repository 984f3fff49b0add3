"""How ``synk start`` ends: with which exit status."""

from __future__ import annotations

import os

from synk.telemetry import SupervisorStopped


class Ending:
    """Follows a supervisor to its end."""

    def __init__(self) -> None:
        self.status = 0
        """The exit status: 75 (EX_TEMPFAIL) if outcomes could not be stored, so jobs run again."""

    def follow(self, fact: object) -> None:
        """Takes note of a fact."""
        if isinstance(fact, SupervisorStopped):
            self.status = os.EX_TEMPFAIL if fact.unacknowledged else 0
