"""The loop that passes the storage's announcements on."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from synk.errors import SynkError
from synk.runtime.supervisor.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from synk.runtime.supervisor.backoff import StorageLink
    from synk.storage.base import Announcements, Hints, Storage
    from synk.telemetry import Telemetry

_LISTEN_S: Final = 0.5
"""How long the listener waits at a time, in seconds."""


class ListenLoop:
    """Passes hints of the storage on. They make things quick; nothing depends on them.

    Args:
        storage: announces them.
        owner: the supervisor's id.
        facts: told when the storage fails it.
        on_hints: called with those that have come; None: anything may have.
        on_listening: called with whether hints come from now on.
    """

    def __init__(
        self,
        storage: Storage,
        owner: UUID,
        facts: Telemetry,
        *,
        on_hints: Callable[[Hints | None], None],
        on_listening: Callable[[bool], None],
    ) -> None:
        self._storage = storage
        self._owner = owner
        self._on_hints = on_hints
        self._on_listening = on_listening
        self._backoff = Backoff("listening", facts)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._announcements: Announcements | None = None

    def share(self, link: StorageLink) -> None:
        """See `ClaimLoop.share`."""
        link.join(self._backoff, self._wake.set)

    def stop(self) -> None:
        """Ends `run`, also while it waits."""
        self._stop.set()
        self._wake.set()
        if self._announcements is not None:
            self._announcements.wake()

    def run(self) -> None:
        """Listens until `stop`."""
        while not self._stop.is_set():
            try:
                with self._storage.announcements(self._owner) as announcements:
                    self._announcements = announcements
                    self._backoff.succeeded(time.monotonic())
                    self._on_listening(announcements.is_live)
                    # Whatever came while nobody listened.
                    self._on_hints(None)
                    while not self._stop.is_set():
                        if hints := announcements.wait(_LISTEN_S):
                            self._on_hints(hints)
            except SynkError as error:
                self._on_listening(False)  # noqa: FBT003 - a fact
                self._wake.clear()
                pause_s = self._backoff.failed(error, time.monotonic())
                if not self._stop.is_set():
                    self._wake.wait(pause_s)
