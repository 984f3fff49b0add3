"""The thread that renews the supervisor's lease, on a connection of its own, above everything else.

It holds no lock that another thread holds, and does nothing that could take long. Whether work may
go on does not depend on it: the engine's loop looks at the lease itself, so that a lease loop that
hangs ends the work in time.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.errors import SynkError
from synk.runtime.supervisor.backoff import Backoff
from synk.runtime.supervisor.jitter import jittered

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from synk.core.ownership import OwnLease
    from synk.runtime.supervisor.backoff import StorageLink
    from synk.status import Beat
    from synk.storage.base import Heartbeat, Storage
    from synk.telemetry import Telemetry

CLOCK_STEP_S: Final = 2.0
"""A difference between the storage's clock and this machine's, from beat to beat, that is told."""


def boottime() -> float:
    """Returns seconds of a clock that goes on while the machine sleeps, and is never set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseLoop:
    """Renews a lease until it is told to stop, or the lease is lost for good.

    Args:
        storage: where the lease is.
        owner: whose it is.
        lease: takes note of each renewal.
        facts: told when the storage fails it.
        on_beat: called after each renewal.
        on_return: called after the first renewal that follows a failure.
        on_newer_schema: called once if the storage's schema is newer than this version of synk.
        on_lost: called with the reason once the lease can never be renewed again.
    """

    def __init__(
        self,
        storage: Storage,
        owner: UUID,
        lease: OwnLease,
        facts: Telemetry,
        *,
        on_beat: Callable[[], None],
        on_return: Callable[[], None],
        on_newer_schema: Callable[[int], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._storage = storage
        self._owner = owner
        self._lease = lease
        self._facts = facts
        self._on_beat = on_beat
        self._on_return = on_return
        self._on_newer_schema: Callable[[int], None] | None = on_newer_schema
        self._on_lost = on_lost
        self._backoff = Backoff("renewing the lease", facts, is_scout=True)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._clock: tuple[float, float] | None = None

    def share(self, link: StorageLink) -> None:
        """Has other loops hear when this one gets through to the storage, and the reverse."""
        link.join(self._backoff, self._wake.set)

    def stop(self) -> None:
        """Ends `run`, at the latest when an answer that is under way has come or is given up."""
        self._stop.set()
        self._wake.set()

    def run(self) -> None:
        """Beats until `stop`, or until the lease is lost for good."""
        while not self._stop.is_set():
            try:
                with self._storage.heartbeat(self._owner) as heartbeat:
                    if self._beat_on(heartbeat):
                        return
            except SynkError as error:
                self._wake.clear()
                pause_s = min(self._backoff.failed(error, time.monotonic()), self._lease.beat_s)
                if not self._stop.is_set():
                    self._wake.wait(pause_s)

    def _beat_on(self, heartbeat: Heartbeat) -> bool:
        """Beats until `stop`; returns whether the lease is lost for good."""
        while not self._stop.is_set():
            if not self._beat_once(heartbeat, boottime()):
                return True
            # Not all of a fleet in the same instant.
            self._stop.wait(jittered(self._lease.beat_s, 0.1))
        return False

    def _beat_once(self, heartbeat: Heartbeat, now: float) -> bool:
        """Renews the lease; returns whether it could be: if not, it is lost for good."""
        beat = heartbeat.beat()
        if beat is None:
            self._on_lost("another supervisor declared this one dead, or its row is gone")
            return False
        self._lease.renewed(now)
        if self._backoff.is_failing:
            self._backoff.succeeded(time.monotonic())
            self._on_return()
        self._compare_clocks(beat)
        if beat.schema_version > heartbeat.schema_version and self._on_newer_schema is not None:
            self._on_newer_schema(beat.schema_version)
            self._on_newer_schema = None
        self._on_beat()
        return True

    def _compare_clocks(self, beat: Beat) -> None:
        now = boottime()
        if self._clock is not None:
            stepped_s = (beat.clock_s - self._clock[1]) - (now - self._clock[0])
            if abs(stepped_s) > CLOCK_STEP_S:
                self._facts.emit(telemetry.StorageClockStepped(stepped_s))
        self._clock = (now, beat.clock_s)
