"""Trouble with the storage: told once when it begins and once when it ends, not once a try."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from synk import telemetry

if TYPE_CHECKING:
    from synk.telemetry import Telemetry


class Trouble:
    """One loop's trouble with the storage: told when it begins and ends, with a back-off."""

    def __init__(self, loop: str, facts: Telemetry) -> None:
        self._loop = loop
        self._facts = facts
        self._since: float | None = None
        self._failures = 0

    @property
    def is_on(self) -> bool:
        """Whether the last try failed."""
        return self._since is not None

    def began(self, error: Exception) -> float:
        """Notes a failure; returns the seconds to pause."""
        if self._since is None:
            self._since = time.monotonic()
            self._facts.emit(telemetry.StorageTrouble(self._loop, str(error)))
        self._failures += 1
        return min(5.0, 0.1 * 2 ** min(self._failures, 6)) * random.uniform(0.5, 1.0)  # noqa: S311

    def ended(self) -> None:
        """Notes a success."""
        if self._since is not None:
            seconds = time.monotonic() - self._since
            self._since, self._failures = None, 0
            self._facts.emit(telemetry.StorageRecovered(self._loop, seconds))
