"""A supervisor: the engine, its loops, and the order in which all of it stops.

The stop: no more claims; jobs that have not begun go back uncharged; running jobs get their time,
then they are killed and go back uncharged; the last outcomes are stored; everything is closed. A
second signal leaves them little time, and a third none.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.core.limits import QueueLimits, Recycling
from synk.core.messages import DrainRequested, LeaseExpired, Tick
from synk.core.ownership import BEATS_A_TTL, OwnLease
from synk.core.pool import Pool
from synk.errors import SchemaMismatch
from synk.retry import Verdict
from synk.runtime.supervisor import grace_period, preconditions
from synk.runtime.supervisor.ack_loop import AckLoop
from synk.runtime.supervisor.backoff import StorageLink
from synk.runtime.supervisor.claim_loop import ClaimLoop
from synk.runtime.supervisor.engine import Engine
from synk.runtime.supervisor.lag_loop import LagLoop
from synk.runtime.supervisor.lease_loop import LeaseLoop, boottime
from synk.runtime.supervisor.listen_loop import ListenLoop
from synk.runtime.supervisor.loop_runner import LoopRunner
from synk.runtime.supervisor.maintenance_loop import MaintenanceLoop
from synk.runtime.supervisor.report_loop import ReportLoop
from synk.runtime.supervisor.worker_status import slot_status
from synk.status import ClientStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from synk.config import CleanerConfig, EngineConfig, QueueConfig
    from synk.core.messages import Settle
    from synk.registry import Registry
    from synk.status import SlotStatus
    from synk.storage.base import Hints, Storage
    from synk.telemetry import Telemetry

SWITCH_S: Final = 0.001
"""How long a thread may keep the interpreter while another waits for it. With Python's default of 5
ms the workers run out of work while a claim is being read."""

STAGE_S: Final = 0.5
"""How often due jobs are looked for: the precision of `scheduled_at`."""

HASTE_S: Final = 3.0
"""What running jobs have left when the supervisor is told a second time to stop."""

FLUSH_S: Final = 10.0
"""How long the last outcomes may take to be stored; after that their jobs will run again."""

CLOCKS: Final[Mapping[str, Callable[[], float]]] = {
    "claim": time.monotonic,
    "ack": time.monotonic,
    "listen": time.monotonic,
    "maintain": boottime,
    "report": time.monotonic,
    "lease": boottime,
    "lag": time.monotonic,
}
"""The loops, and the clock of each: leases hold on while the machine sleeps."""


class Supervisor:
    """Runs a client's queues in this process, under one id, until it is told to stop."""

    def __init__(  # noqa: PLR0915 - the parts of a supervisor
        self,
        storage: Storage,
        *,
        owner: UUID,
        client_id: str,
        queues: Mapping[str, QueueConfig],
        registry: Registry,
        engine: EngineConfig,
        cleaner: CleanerConfig | None,
        facts: Telemetry,
    ) -> None:
        preconditions.check_place()
        preconditions.check_machine(queues, engine)
        self._doubt = grace_period.doubt(engine.drain_timeout_s, os.environ, os.getpid())
        self._storage = storage
        self._config = engine
        self._facts = facts
        self._client_id = client_id
        self._queues = queues
        self._stops = 0
        self._drain_until: float | None = None
        self._problem: BaseException | None = None
        self.has_lost_its_lease = False
        """Whether it ended because it can never own a job again."""
        self._beats = 0
        self._given_back = 0
        """Jobs that went back without having begun, and were not told of yet."""
        self._was_fenced = False
        self._status = _status(owner, engine, queues, registry)
        self._lease = OwnLease(engine.lease_ttl_s)
        self.pool = _pool(engine, queues, registry)
        self._runners = {
            name: LoopRunner(name, self._on_failure, clock=clock) for name, clock in CLOCKS.items()
        }
        self._acks = AckLoop(
            storage,
            owner,
            facts,
            held_bytes=engine.max_held_bytes,
            wake=self._runners["ack"].wake,
        )
        self._engine = Engine(
            self.pool,
            engine,
            registry,
            queues,
            client_id=client_id,
            settle=self._settle,
            on_change=self._on_change,
            lease_left_s=lambda: self._lease.left_s(boottime()),
            schema=getattr(storage, "schema", None),
        )
        self._engine.worker_set.warn = lambda text: facts.emit(telemetry.WorkersDoubted(text))
        self._engine.worker_set.tell_unready = lambda text: facts.emit(
            telemetry.WorkerNotReady(text)
        )
        self._claims = ClaimLoop(
            storage,
            self._engine,
            self._acks,
            owner,
            queues,
            registry.kinds,
            facts,
            wake=self._runners["claim"].wake,
            held_bytes=engine.max_held_bytes,
        )
        self._lease_loop = LeaseLoop(
            storage,
            owner,
            self._lease,
            facts,
            on_beat=self._on_beat,
            # Perhaps to another server, which has not all that the former one had.
            on_return=self._claims.reconcile_soon,
            on_newer_schema=self._on_newer_schema,
            on_lost=self._on_lease_lost,
        )
        self._listener = ListenLoop(
            storage,
            owner,
            facts,
            on_hints=self._on_hints,
            on_listening=self._claims.rely_on_announcements,
        )
        self._maintenance = MaintenanceLoop(
            storage,
            self._engine,
            owner,
            facts,
            stage_s=STAGE_S,
            lease_ttl_s=engine.lease_ttl_s,
            queues=tuple(queues),
            cleaner=cleaner,
            on_staged=self._claims.look_now,
        )
        self._reports = ReportLoop(storage, self._engine, self._status, facts)
        self._lag = LagLoop(self._engine, facts, self._runners["lag"].wake)
        link = StorageLink()
        self._claims.share(link)
        self._acks.share(link, self._runners["ack"].wake)
        self._lease_loop.share(link, self._runners["lease"].wake)
        self._listener.share(link, self._runners["listen"].wake)
        self._maintenance.share(link, self._runners["maintain"].wake)
        self._reports.share(link, self._runners["report"].wake)

    # -- running and stopping ---------------------------------------------------------------------

    def run(self) -> None:
        """Runs until `stop`, or until the lease is lost for good.

        Raises:
            StorageUnavailable: the database cannot be used at the start. Later this is waited for.
            SchemaMismatch: it has no schema that this version works with.
            WorkerStartError: worker processes cannot be started.
        """
        for doubt in self._storage.ping():
            self._facts.emit(telemetry.StorageDoubted(doubt))
        sent_at = boottime()
        self._storage.register_client(self._status, dt.timedelta(seconds=self._config.lease_ttl_s))
        self._lease.renewed(sent_at)
        self._facts.emit(
            telemetry.SupervisorStarted(
                self._client_id, self._config.processes, tuple(self._queues), repr(self._storage)
            )
        )
        if self._doubt is not None:
            self._facts.emit(self._doubt)
        switch_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        self._start_loops()
        try:
            self._engine.run()
        finally:
            self._finish()
            sys.setswitchinterval(switch_s)
        if self._problem is not None:
            raise self._problem

    def _start_loops(self) -> None:
        self._facts.subscribe(self._reports.note, successes=False)
        runners = self._runners
        runners["claim"].start(self._claims.step, close=self._claims.close)
        runners["ack"].start(self._acks.step)
        runners["listen"].start(self._listener.step, close=self._listener.close)
        runners["maintain"].start(self._maintenance.step)
        runners["report"].start(self._reports.step)
        runners["lease"].start(self._lease_loop.step, close=self._lease_loop.close)
        runners["lag"].start(self._lag.step)

    def _on_failure(self, error: BaseException) -> None:
        """A loop has failed, which is a bug: that ends the supervisor instead of crippling it."""
        self._problem = error
        self.stop(0.0)

    def stop(self, timeout_s: float | None = None) -> None:
        """Begins to stop; returns at once. Told again, running jobs get less time, then none.

        Args:
            timeout_s: seconds for running jobs; None: the configured drain time-out, a few seconds
                the second time, and none at all after that.
        """
        self._stops += 1
        now = time.monotonic()
        if timeout_s is None:
            timeout_s = self._time_left_s(now)
        self._drain_until = now + timeout_s
        self._facts.emit(telemetry.SupervisorDraining(timeout_s))
        self._runners["claim"].stop()
        self._engine.post(DrainRequested(self._drain_until))

    def _time_left_s(self, now: float) -> float:
        given_s = (self._config.drain_timeout_s, HASTE_S, 0.0)[min(self._stops, 3) - 1]
        if self._drain_until is None:
            return given_s
        return max(0.0, min(given_s, self._drain_until - now))

    def _finish(self) -> None:
        """Stores what is left to store. The lease is renewed until that is done."""
        runners = self._runners
        for name in ("claim", "listen", "maintain", "lag"):
            runners[name].stop()
        self._listener.interrupt()
        deadline = time.monotonic() + FLUSH_S
        runners["claim"].join(FLUSH_S)
        self._engine.give_back()
        self._tell_given_back()
        self._facts.emit(telemetry.SupervisorFlushing(self._acks.unacknowledged))
        self._acks.finish_by(deadline)
        runners["ack"].finish()
        runners["ack"].join(max(0.0, deadline - time.monotonic()) + 1.0)
        runners["lease"].stop()
        self._facts.unsubscribe(self._reports.note)
        self._reports.finish()
        runners["report"].finish()
        for name in ("listen", "maintain", "lease", "report", "lag"):
            runners[name].join(1.0)
        unstored = self._acks.unacknowledged
        if unstored:
            self._facts.emit(telemetry.OutcomesUnstored(unstored))
        self._facts.emit(telemetry.SupervisorStopped(unstored))

    # -- what the loops tell ----------------------------------------------------------------------

    def activity(self) -> list[SlotStatus]:
        """Returns what each slot's worker does; may be called from any thread."""
        now = time.monotonic()
        return [slot_status(slot, now) for slot in self.pool.slots]

    def _settle(self, settle: Settle) -> None:
        for ended in settle.ended:
            if ended.verdict is not Verdict.RELEASED:
                continue
            if ended.interrupted:
                self._facts.emit(telemetry.AttemptInterrupted(ended))
            else:
                self._given_back += 1
        self._acks.settle(settle)

    def _tell_given_back(self) -> None:
        if self._given_back:
            self._facts.emit(telemetry.JobsGivenBack(self._given_back))
            self._given_back = 0

    def _on_change(self) -> None:
        if self.pool.fenced != self._was_fenced:
            self._was_fenced = self.pool.fenced
            self._facts.emit(
                telemetry.LeaseRanOut() if self._was_fenced else telemetry.LeaseRegained()
            )
        self._tell_given_back()
        self._acks.is_busy = self.pool.is_crowded
        # Asked again at the latest when the loop is asked for its next sign of life.
        room = self._acks.room(self._count_at_hand)
        demand = {name: min(n, room) for name, n in self.pool.demand().items()} if room > 0 else {}
        urgent = self.pool.urgent() if room > 0 else {}
        self._claims.set_demand(demand, urgent, self.pool.claims, self.pool.rooms())

    def _count_at_hand(self) -> int:
        return self.pool.backlog.count + sum(len(slot.in_flight) for slot in self.pool.slots)

    def _on_hints(self, hints: Hints | None) -> None:
        """Wakes up only who is meant: all of them would be in each other's way."""
        if hints is None or hints.queues:
            self._claims.look_now(None if hints is None else hints.queues)
        if hints is None or hints.requests:
            self._runners["maintain"].wake()
            self._runners["report"].wake()

    def _on_beat(self) -> None:
        self._beats += 1
        if self._beats % BEATS_A_TTL == 0:
            self._claims.reconcile_soon()
        if self.pool.fenced:
            self._engine.post(Tick())

    def _on_newer_schema(self, version: int) -> None:
        self._problem = SchemaMismatch(
            f"the schema was brought to version {version} while this supervisor ran, which knows "
            "an older one: start a newer synk"
        )
        self.stop()

    def _on_lease_lost(self, reason: str) -> None:
        """Others may have its jobs: all of them are killed at once, and no outcome counts."""
        self._facts.emit(telemetry.LeaseRevoked(reason))
        self.has_lost_its_lease = True
        self._runners["claim"].stop()
        self._engine.post(LeaseExpired())
        self._engine.post(DrainRequested(time.monotonic()))


def _pool(engine: EngineConfig, queues: Mapping[str, QueueConfig], registry: Registry) -> Pool:
    return Pool(
        slots=engine.processes,
        queues={
            name: QueueLimits(
                max_workers=queue.max_workers,
                timeout_s=queue.job_timeout.total_seconds(),
                rss_max=queue.max_rss,
            )
            for name, queue in queues.items()
        },
        recycling=Recycling(
            jobs_max=engine.max_jobs,
            rss_max=engine.max_worker_rss,
            start_timeout_s=engine.start_timeout_s,
            cancel_grace_s=engine.cancel_grace_s,
        ),
        limited=registry.limited_kinds,
        held_bytes=engine.max_held_bytes,
    )


def _status(
    owner: UUID, engine: EngineConfig, queues: Mapping[str, QueueConfig], registry: Registry
) -> ClientStatus:
    return ClientStatus(
        id=owner,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=metadata.version("synk"),
        processes=engine.processes,
        queues=tuple(queues),
        kinds=tuple(registry.kinds),
    )
