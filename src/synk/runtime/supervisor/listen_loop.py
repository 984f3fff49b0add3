"""The loop that passes the storage's announcements on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from synk.errors import SynkError
from synk.runtime.supervisor.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from synk.storage.base import Announcements, Hints, Storage
    from synk.telemetry import Telemetry

LISTEN_S: Final = 0.5
"""How long a step waits for announcements."""


class ListenLoop:
    """Passes hints of the storage on. They make things quick; nothing depends on them.

    Args:
        storage: announces them.
        owner: the supervisor's id.
        facts: told when the storage fails.
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
        self.backoff = Backoff("listening", facts)
        self._opened = contextlib.ExitStack()
        self._announcements: Announcements | None = None

    def step(self, now: float) -> float:
        """Begins to listen, or waits for announcements; returns the seconds until the next step."""
        try:
            with self._opened as opened:
                if self._announcements is None:
                    subscription = self._storage.announcements(self._owner)
                    self._announcements = opened.enter_context(subscription)
                    self._begin(self._announcements, now)
                elif hints := self._announcements.wait(LISTEN_S):
                    self._on_hints(hints)
                # All is well: it stays open.
                self._opened = opened.pop_all()
        except SynkError as error:
            self._announcements = None
            self._on_listening(False)  # noqa: FBT003 - a fact
            return self.backoff.failed(error, now)
        return 0.0

    def _begin(self, announcements: Announcements, now: float) -> None:
        self.backoff.succeeded(now)
        self._on_listening(announcements.is_live)
        # Whatever came while nobody listened.
        self._on_hints(None)

    def interrupt(self) -> None:
        """Ends the wait of a step that is under way, and of all later ones; for any thread."""
        if (announcements := self._announcements) is not None:
            announcements.wake()

    def close(self) -> None:
        """Listens no more."""
        with contextlib.suppress(SynkError):
            self._opened.close()
