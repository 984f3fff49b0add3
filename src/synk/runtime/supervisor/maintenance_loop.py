"""The loop that makes due jobs available, looks for cancel requests, rescues, sweeps and cleans.

It also goes on where a job has ended with more dependents than one transaction settles.

Any number of supervisors do this at once, without a leader: each pass takes what it finds under row
locks, and skips what another one has. However much there is of one kind of work, a pass does one
batch of it, of a size that takes a moment, so that nothing waits for more than that.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.core.messages import CancelRequested
from synk.core.ownership import BEATS_A_TTL, SecondOpinion
from synk.errors import StorageConflict, SynkError
from synk.runtime.supervisor.backoff import Backoff
from synk.runtime.supervisor.batch_size import BatchSize
from synk.runtime.supervisor.jitter import jittered
from synk.runtime.supervisor.lease_loop import boottime
from synk.status import client_id_of
from synk.storage.inspection import Inspection
from synk.storage.sweeping import Sweeping

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from synk.config import CleanerConfig
    from synk.row import JobState
    from synk.runtime.supervisor.engine import Engine
    from synk.storage.base import Storage
    from synk.telemetry import Telemetry

STAGE_S: Final = 0.5
"""How often due jobs are looked for: the precision of `scheduled_at`."""

STAGE_JOBS: Final = 1_000
CLEAN_JOBS: Final = 2_000
SWEEP_JOBS: Final = 1_000
RESCUE_JOBS: Final = 500
"""Jobs in a batch at the most."""

SWEEP_S: Final = 1.0
"""How often it is looked for jobs that have expired, or were kept for long enough."""

SETTLE_JOBS: Final = 2_000
"""Jobs whose dependents are gone on with together: their number in all is bounded by the table."""

_LOOK_SHARE: Final = 200
"""A look for unknown kinds takes no more than this part of the time."""

KINDS_TOLD_MAX: Final = 1_000
"""Kinds that are told of: whoever makes more of them has heard of it."""


class MaintenanceLoop:
    """Does what nobody waits for, one pass after the other."""

    def __init__(  # noqa: PLR0913 - what it needs, the rarer by name
        self,
        storage: Storage,
        engine: Engine,
        owner: UUID,
        facts: Telemetry,
        *,
        lease_ttl_s: float,
        queues: Sequence[str],
        cleaner: CleanerConfig | None,
        on_staged: Callable[[], None],
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._owner = owner
        self._facts = facts
        self._cleaner = cleaner
        self._on_staged = on_staged
        self._clock = clock
        self.backoff = Backoff("maintenance", facts, is_scout=True)
        self._staging = BatchSize(STAGE_JOBS)
        self._cleaning = BatchSize(CLEAN_JOBS)
        self._rescuing = BatchSize(RESCUE_JOBS)
        self._sweeping = BatchSize(SWEEP_JOBS)
        self._sweeper = storage if isinstance(storage, Sweeping) else None
        self._sweep_due = 0.0
        self._second_opinion = SecondOpinion(lease_ttl_s)
        self._look_s = lease_ttl_s / BEATS_A_TTL
        """How often the others' leases are looked at: as often as they are renewed, so that a dead
        one's jobs are offered again after its lease and two such intervals."""
        self._rescue_due = 0.0
        self._queues = queues
        self._inspection = storage if isinstance(storage, Inspection) else None
        self._kinds_due = 0.0
        self._kinds_told: set[tuple[str, str]] = set()
        self._clean_due = clock() + self._first_clean_s()
        self._to_clean: deque[tuple[JobState, dt.timedelta]] = deque()
        """What is left to do of a cleaning that is under way."""
        self._clean_after: dt.datetime | None = None
        """Up to where it has come in one state."""
        self._clean_times = 1
        self._cleaned = 0

    def _first_clean_s(self) -> float:
        """Soon, but not for all supervisors of a fleet in the same second."""
        if self._cleaner is None:
            return float("inf")
        interval_s = self._cleaner.clean_interval.total_seconds()
        return jittered(min(interval_s, 60.0), 0.5)

    def step(self, now: float) -> float:
        """Does a pass; returns the seconds until the next."""
        try:
            is_more = self._pass(now)
        except SynkError as error:
            return self.backoff.failed(error, now)
        self.backoff.succeeded(now)
        return 0.0 if is_more else jittered(STAGE_S, 0.2)

    def _pass(self, now: float) -> bool:
        """Does what is due, a batch of each; returns whether there may be more at once."""
        # Each time: an announcement may be lost, or there may be none at all.
        if fences := self._storage.cancel_requests(self._owner):
            self._engine.post(CancelRequested(fences))
        is_more = self._stage()
        # However many each has left, one such batch takes a moment.
        if self._storage.settle(SETTLE_JOBS):
            self._on_staged()
            is_more = True
        if now >= self._rescue_due:
            self._rescue_due = now + jittered(self._look_s, 0.3)
            if self._rescue():
                self._rescue_due = now
                is_more = True
        if now >= self._sweep_due and self._sweeper is not None:
            self._sweep_due = now + jittered(SWEEP_S, 0.2)
            if self._sweep(self._sweeper):
                self._sweep_due = now
                is_more = True
        if now >= self._kinds_due and self._inspection is not None:
            self._look_for_unknown_kinds(self._inspection, now)
        if now >= self._clean_due and not self._to_clean and self._cleaner is not None:
            self._clean_due = now + self._cleaner.clean_interval.total_seconds()
            self._to_clean = deque(self._cleaner.by_status.items())
        return (self._clean() if self._to_clean else False) or is_more

    def _stage(self) -> bool:
        """Makes a batch of what is due available; returns whether there may be more of it."""

        def stage(limit: int) -> int:
            staged = self._storage.stage(limit)
            if staged:
                self._on_staged()
            return staged

        return self._batch(self._staging, stage)

    def _rescue(self) -> bool:
        """Declares dead who is, and offers a batch of the jobs of those that never act again.

        Returns whether there may be more of them.
        """
        leases = self._storage.leases()
        # The time after the answer: what is seen now is not seen for longer than it is.
        suspects = self._second_opinion.suspects(leases, self._clock())
        if suspects:
            for dead in self._storage.declare_dead(suspects):
                self._facts.emit(telemetry.SupervisorDeclaredDead(client_id_of(dead)))
        owners = self._storage.dead_owners()

        def rescue(limit: int) -> int:
            rescued = self._storage.rescue(owners, limit)
            if rescued:
                self._facts.emit(telemetry.JobsRescued(rescued))
                self._on_staged()
            return len(rescued)

        return self._batch(self._rescuing, rescue) if owners else False

    def _sweep(self, sweeper: Sweeping) -> bool:
        """Lets a batch of jobs expire, or removes them; returns whether there may be more."""

        def sweep(limit: int) -> int:
            swept = sweeper.sweep(limit)
            if swept.expired:
                self._facts.emit(telemetry.JobsExpired(swept.expired))
            if swept.removed:
                self._facts.emit(telemetry.JobsCleaned(swept.removed))
            return swept.looked

        return self._batch(self._sweeping, sweep)

    def _look_for_unknown_kinds(self, inspection: Inspection, now: float) -> None:
        """Tells once of each kind that waits and that no supervisor has a worker for."""
        unknown = inspection.unknown_kinds(self._queues)
        took_s = self._clock() - now
        self._kinds_due = now + jittered(max(self._look_s, _LOOK_SHARE * took_s), 0.3)
        for each in unknown:
            name = (each.queue, each.kind)
            if name not in self._kinds_told and len(self._kinds_told) < KINDS_TOLD_MAX:
                self._kinds_told.add(name)
                self._facts.emit(telemetry.UnknownKindWaits(each))

    def _clean(self) -> bool:
        """Removes a batch of what is old; returns whether something is left to be looked at."""
        state, retention = self._to_clean[0]

        def clean(limit: int) -> int:
            if self._sweeper is None:
                removed = self._storage.cleaner(state, retention, limit=limit)
                self._cleaned += removed
                return removed
            room = limit * self._clean_times
            done = self._sweeper.clean(state, retention, limit=room, after=self._clean_after)
            # Very many that are kept ended at the same moment: the next batch is to get past them.
            is_stuck = done.looked == room and not done.removed and done.last == self._clean_after
            self._clean_times = self._clean_times * 2 if is_stuck else 1
            self._clean_after = done.last
            self._cleaned += done.removed
            return done.looked if done.looked == room else 0

        if not self._batch(self._cleaning, clean):
            self._to_clean.popleft()
            self._clean_after = None
        if not self._to_clean and self._cleaned:
            self._facts.emit(telemetry.JobsCleaned(self._cleaned))
            self._cleaned = 0
        return bool(self._to_clean)

    def _batch(self, size: BatchSize, work: Callable[[int], int]) -> bool:
        """Does a batch of some work; returns whether there may be more of it."""
        began = self._clock()
        try:
            count = work(size.size)
        except StorageConflict:
            size.was_too_much()
            raise
        return size.took(self._clock() - began, count)
