"""The loop that reads settings when some were changed, has them applied, and says so.

It rests while nothing changes: the heartbeat brings the number of changes so far, and where they
are announced it hears of them at once. A revision is said to be in force here once all who have
subscribed say so.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Final

from synk.errors import SynkError
from synk.runtime.supervisor.backoff import Backoff
from synk.setting import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from synk.storage.settings import RuntimeSettings
    from synk.telemetry import Telemetry

_LOOK_S: Final = 0.005
"""Between two looks whether all have them in force; that takes moments."""


class SettingsLoop:
    """Keeps one supervisor's settings those of the storage.

    Args:
        storage: where they are.
        owner: the supervisor's id.
        facts: told when the storage fails.
        wake: has the next step come now; called from any thread.
    """

    def __init__(
        self,
        storage: RuntimeSettings,
        owner: UUID,
        facts: Telemetry,
        *,
        wake: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._owner = owner
        self._wake = wake
        self.backoff = Backoff("reading settings", facts)
        self._subscribers: list[tuple[Callable[[Settings], None], Callable[[], bool]]] = []
        self._lock = threading.Lock()
        self._reads = 0
        """Reads that were begun."""
        self._applied = 0
        """The number of the one whose answer was applied."""
        self._settings = self._told = Settings()
        """What was applied, and what the storage knows to be in force."""
        self._is_asked = False

    def subscribe(
        self, apply: Callable[[Settings], None], is_in_force: Callable[[], bool] = lambda: True
    ) -> None:
        """Has *apply* called with all settings, now and when some were changed.

        It is called from any thread, by one at a time, and must not block. What it begins is over
        when *is_in_force* says so, which is asked in this loop's thread.
        """
        self._subscribers.append((apply, is_in_force))

    # -- for other threads ------------------------------------------------------------------------

    def noticed(self, revision: int) -> None:
        """The storage has settings of this *revision*."""
        if revision != self._settings.revision:
            self.read_soon()

    def read_soon(self) -> None:
        """There may be other settings."""
        self._is_asked = True
        self._wake()

    def refresh(self) -> None:
        """Reads and applies the settings of this moment, in this thread.

        Raises:
            StorageError: they could not be read.
        """
        with self._lock:
            self._reads += 1
            number = self._reads
        settings = self._storage.settings()
        with self._lock:
            # Two may read at one time: what was asked for later is not older.
            if number > self._applied:
                self._applied, self._settings = number, settings
                for apply, _ in self._subscribers:
                    apply(settings)

    # -- the loop ---------------------------------------------------------------------------------

    def step(self, now: float) -> float:
        """Does one thing of what is due; returns the seconds until the next step."""
        try:
            pause_s = self._do_next()
        except SynkError as error:
            return self.backoff.failed(error, now)
        self.backoff.succeeded(now)
        return pause_s

    def _do_next(self) -> float:
        settings = self._settings
        if self._is_asked:
            # Before the question: what is changed meanwhile is another one.
            self._is_asked = False
            try:
                self.refresh()
            except SynkError:
                self._is_asked = True
                raise
            return 0.0
        if settings is self._told or settings.revision == self._told.revision == 0:
            return math.inf
        if not all(is_in_force() for _, is_in_force in self._subscribers):
            return _LOOK_S
        if settings is self._settings and self._storage.report_in_force(self._owner, settings):
            self._told = settings
        else:
            self._is_asked = True
        return 0.0
