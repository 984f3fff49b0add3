"""A supervisor from the first start to the last stop, through all its incarnations.

One whose lease is lost for good can never act again under its id: others may have its jobs. It
ends, and another one begins.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from synk.runtime.supervisor import stop_signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.runtime.supervisor.supervisor import Supervisor
    from synk.status import SlotStatus


class Service:
    """Runs one supervisor after the other until it is told to stop.

    Args:
        make: gives a new supervisor, with an id that was never used.
    """

    def __init__(self, make: Callable[[], Supervisor]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._supervisor = make()
        self._is_stopping = False

    def run(self) -> None:
        """Runs until `stop`, or until a signal where this is the main thread.

        Raises:
            StorageUnavailable: the database cannot be used at the start. Later this is waited for.
            SchemaMismatch: it has no schema that this version works with.
            WorkerStartError: worker processes cannot be started.
        """
        with stop_signals.stopping(self.stop):
            while True:
                self._supervisor.run()
                with self._lock:
                    if self._is_stopping or not self._supervisor.has_lost_its_lease:
                        return
                    self._supervisor = self._make()

    def stop(self, timeout_s: float | None = None) -> None:
        """See `Supervisor.stop`."""
        with self._lock:
            self._is_stopping = True
            self._supervisor.stop(timeout_s)

    def activity(self) -> list[SlotStatus]:
        """See `Supervisor.activity`."""
        return self._supervisor.activity()
