"""The loop that renews the supervisor's lease, on a connection of its own, above everything else.

It holds no lock that another thread holds, and does nothing that could take long. Whether work may
go on does not depend on it: the engine's loop looks at the lease itself, so that a lease loop that
hangs ends the work in time.
"""

from __future__ import annotations

import contextlib
import math
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
    from synk.status import Beat
    from synk.storage.base import Heartbeat, Storage
    from synk.telemetry import Telemetry

CLOCK_STEP_S: Final = 2.0
"""A difference between the storage's clock and this machine's, from beat to beat, that is told."""


def boottime() -> float:
    """Returns seconds of a clock that goes on while the machine sleeps, and is never set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseLoop:
    """Renews a lease until it is lost for good.

    Args:
        storage: where the lease is.
        owner: whose it is.
        lease: takes note of each renewal.
        facts: told when the storage fails it.
        on_beat: called after each renewal, with the answer.
        on_return: called after the first renewal that follows a failure.
        on_regaining: called where the lease was over, before work may go on by the renewal. If it
            raises, that has failed too.
        on_newer_schema: called once if the storage's schema is newer than this version of synk.
        on_lost: called with the reason once the lease can never be renewed again.
        clock: gives the time that `step` is told.
    """

    def __init__(  # noqa: PLR0913 - what it needs, and whom it tells
        self,
        storage: Storage,
        owner: UUID,
        lease: OwnLease,
        facts: Telemetry,
        *,
        on_beat: Callable[[Beat], None],
        on_return: Callable[[], None],
        on_newer_schema: Callable[[int], None],
        on_lost: Callable[[str], None],
        on_regaining: Callable[[], None],
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._storage = storage
        self._owner = owner
        self._lease = lease
        self._facts = facts
        self._on_beat = on_beat
        self._on_return = on_return
        self._on_regaining = on_regaining
        self._on_newer_schema: Callable[[int], None] | None = on_newer_schema
        self._on_lost = on_lost
        self.backoff = Backoff("renewing the lease", facts, is_scout=True)
        self._clock = clock
        self._opened = contextlib.ExitStack()
        self._heartbeat: Heartbeat | None = None
        self._is_lost = False
        self._clocks: tuple[float, float] | None = None
        """What this machine's and the storage's showed at the last beat."""

    def step(self, now: float) -> float:
        """Connects, or beats; returns the seconds until the next step."""
        if self._is_lost:
            return math.inf
        try:
            with self._opened as opened:
                pause_s = 0.0
                if self._heartbeat is None:
                    # A step of its own, or the time that it takes would be missing from the lease.
                    self._heartbeat = opened.enter_context(self._storage.heartbeat(self._owner))
                else:
                    pause_s = self._beat_on(self._heartbeat, now)
                # All is well: it stays open.
                self._opened = opened.pop_all()
        except SynkError as error:
            self._heartbeat = None
            return min(self.backoff.failed(error, now), self._lease.beat_s)
        return pause_s

    def close(self) -> None:
        """Gives up the connection."""
        with contextlib.suppress(SynkError):
            self._opened.close()

    def _beat_on(self, heartbeat: Heartbeat, now: float) -> float:
        """Renews the lease; returns the seconds until that is due again: never, if it is lost."""
        beat = heartbeat.beat()
        if beat is None:
            self._is_lost = True
            self._on_lost("another supervisor declared this one dead, or its row is gone")
            return math.inf
        if self._lease.left_s(self._clock()) <= 0:
            self._on_regaining()
        self._lease.renewed(now)
        if self.backoff.is_failing:
            self.backoff.succeeded(now)
            self._on_return()
        self._compare_clocks(beat)
        if beat.schema_version > heartbeat.schema_version and self._on_newer_schema is not None:
            self._on_newer_schema(beat.schema_version)
            self._on_newer_schema = None
        self._on_beat(beat)
        # Not all of a fleet in the same instant.
        return jittered(self._lease.beat_s, 0.1)

    def _compare_clocks(self, beat: Beat) -> None:
        now = self._clock()
        if self._clocks is not None:
            stepped_s = (beat.clock_s - self._clocks[1]) - (now - self._clocks[0])
            if abs(stepped_s) > CLOCK_STEP_S:
                self._facts.emit(telemetry.StorageClockStepped(stepped_s))
        self._clocks = (now, beat.clock_s)
