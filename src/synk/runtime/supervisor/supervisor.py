"""A supervisor: the engine, its loops, and the order in which all of it stops.

The stop: no more claims; jobs that have not begun go back uncharged; running jobs get their time,
then they are killed and go back uncharged; the last outcomes are stored; everything is closed. A
second signal leaves them little time, and a third none.

The file is long for the loops: it makes, starts and ends each of them.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.core.claim_schedule import Demand
from synk.core.messages import DrainRequested, LeaseChanged, Tick
from synk.core.ownership import BEATS_A_TTL
from synk.errors import SchemaMismatch
from synk.retry import Verdict
from synk.runtime.supervisor import platform_grace, preconditions
from synk.runtime.supervisor.ack_loop import AckLoop
from synk.runtime.supervisor.backoff import StorageLink
from synk.runtime.supervisor.claim_loop import ClaimLoop
from synk.runtime.supervisor.keyed_claims import keyed_claims_of
from synk.runtime.supervisor.lag_loop import LagLoop
from synk.runtime.supervisor.lease_loop import LeaseLoop
from synk.runtime.supervisor.listen_loop import ListenLoop
from synk.runtime.supervisor.machine import Machine, own_status
from synk.runtime.supervisor.maintenance_loop import MaintenanceLoop
from synk.runtime.supervisor.periodic_loop import PeriodicLoop
from synk.runtime.supervisor.pools import pool_of
from synk.runtime.supervisor.queue_control import QueueControl
from synk.runtime.supervisor.report_loop import ReportLoop
from synk.runtime.supervisor.settings_loop import SettingsLoop
from synk.runtime.supervisor.worker_status import slot_status
from synk.status import client_id_of
from synk.storage.settings import RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from synk.config import CleanerConfig, EngineConfig, QueueConfig
    from synk.core.messages import Settle
    from synk.periodic import Definition
    from synk.registry import Registry
    from synk.runtime.supervisor.engine import Engine
    from synk.runtime.supervisor.loop_runner import LoopRunner
    from synk.status import Beat, SlotStatus
    from synk.storage.base import Hints, Storage
    from synk.telemetry import Telemetry

SWITCH_S: Final = 0.001
"""How long a thread may keep the interpreter while another waits for it. With Python's default of 5
ms the workers run out of work while a claim is being read."""

HASTE_S: Final = 3.0
"""What running jobs have left when the supervisor is told a second time to stop."""

FLUSH_S: Final = 10.0
"""How long the last outcomes may take to be stored; after that their jobs will run again."""
_REAL: Final = Machine()


class Supervisor:
    """Runs a client's queues in this process, under one id, until it is told to stop."""

    def __init__(  # noqa: PLR0913 - what a client has
        self,
        storage: Storage,
        *,
        owner: UUID,
        queues: Mapping[str, QueueConfig],
        registry: Registry,
        engine: EngineConfig,
        cleaner: CleanerConfig | None,
        facts: Telemetry,
        periodic: Sequence[Definition] = (),
        machine: Machine = _REAL,
    ) -> None:
        preconditions.check_place()
        preconditions.check_machine(queues, engine)
        self._doubt = platform_grace.doubt(engine.drain_timeout_s, os.environ, os.getpid())
        self._storage = storage
        self._config = engine
        self._facts = facts
        self._client_id = client_id_of(owner)
        self._queues = queues
        self._machine = machine
        self._stops = 0
        self._drain_until: float | None = None
        self._problem: BaseException | None = None
        self.has_lost_its_lease = False
        """Whether it ended only because it can never own a job again."""
        self._beats = 0
        self._given_back = 0
        """Jobs that went back without having begun, and were not told of yet."""
        self._was_fenced = False
        self._has_plain = len(registry.weights) < len(registry.kinds)
        """Whether there are kinds without a weight."""
        self._status = own_status(owner, engine, queues, registry)
        self._lease = machine.make_lease(engine.lease_ttl_s)
        self.pool = pool_of(engine, queues, registry)
        self._runners = machine.runners(self._on_failure)
        self.engine = self._new_engine(registry)
        self._make_claims(owner, registry)
        self._make_loops(owner, cleaner)
        self._periodic = PeriodicLoop(storage, owner, periodic, facts)
        if self.settings:  # by which other schedules are told of, too
            self.settings.subscribe(lambda _: self._runners["periodic"].wake())

    def _new_engine(self, registry: Registry) -> Engine:
        machine = self._machine
        return machine.make_engine(
            self.pool,
            self._config,
            registry,
            self._queues,
            client_id=self._client_id,
            settle=self._settle,
            on_change=self._on_change,
            facts=self._facts,
            lease_left_s=lambda: self._lease.left_s(machine.lease_clock()),
            schema=getattr(self._storage, "schema", None),
        )

    def _make_claims(self, owner: UUID, registry: Registry) -> None:
        storage, engine, config, facts = self._storage, self.engine, self._config, self._facts
        runners = self._runners
        self._acks = AckLoop(
            storage, owner, facts, held_bytes=config.max_held_bytes, wake=runners["ack"].wake
        )
        self._keyed = keyed_claims_of(
            storage, engine, self._acks, owner, registry, self._queues, config.processes
        )
        self._claims = ClaimLoop(
            storage,
            engine,
            self._acks,
            owner,
            self._queues,
            [kind for kind in registry.kinds if kind not in registry.weights],
            facts,
            wake=runners["claim"].wake,
            keyed=self._keyed,
            held_bytes=config.max_held_bytes,
            clock=self._machine.clock,
        )

    def _make_settings(self, owner: UUID) -> None:
        self.settings = (
            SettingsLoop(self._storage, owner, self._facts, wake=self._runners["settings"].wake)
            if isinstance(self._storage, RuntimeSettings)
            else None
        )
        """None: nothing can be set while this runs."""
        if self.settings:
            control = QueueControl(
                self.engine, self._claims, self._acks, owner, self._queues, self._facts,
                drain=self.drain, clock=self._machine.clock,
            )  # fmt: skip
            self.settings.subscribe(control.apply, control.is_in_force)
            self.settings.subscribe(self._claims.apply_limits)

    def _make_loops(self, owner: UUID, cleaner: CleanerConfig | None) -> None:
        self._make_settings(owner)
        storage, engine, facts = self._storage, self.engine, self._facts
        machine = self._machine
        self._lease_loop = LeaseLoop(
            storage,
            owner,
            self._lease,
            facts,
            on_beat=self._on_beat,
            on_return=self._on_return,
            on_regaining=self._on_regaining,
            on_newer_schema=self._on_newer_schema,
            on_lost=self._on_lease_lost,
            clock=machine.lease_clock,
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
            engine,
            owner,
            facts,
            lease_ttl_s=self._config.lease_ttl_s,
            queues=tuple(self._queues),
            cleaner=cleaner,
            on_staged=self._claims.look_now,
            clock=machine.lease_clock,
        )
        self._reports = ReportLoop(storage, engine, self._status, facts, clock=machine.clock)
        self._lag = LagLoop(engine, facts, self._runners["lag"].wake)

    # -- running and stopping ---------------------------------------------------------------------

    def run(self) -> None:
        """Runs until `stop`, or until the lease is lost for good.

        Raises:
            StorageUnavailable: the database cannot be used at the start. Later this is waited for.
            SchemaMismatch: it has no schema that this version works with.
            WorkerStartError: worker processes cannot be started.
        """
        self.begin()
        switch_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        try:
            self.engine.run()
        finally:
            for runner, patience_s in self.end():
                runner.join(patience_s)
            sys.setswitchinterval(switch_s)
        if self._problem is not None:
            raise self._problem

    def begin(self) -> None:
        """Gets its lease, and starts the loops; raises as `run` does."""
        for doubt in self._storage.ping():
            self._facts.emit(telemetry.StorageDoubted(doubt))
        sent_at = self._machine.lease_clock()
        self._storage.register_client(self._status, dt.timedelta(seconds=self._config.lease_ttl_s))
        self._lease.renewed(sent_at)
        if self.settings:
            # After it is known as one that runs, before it claims.
            self.settings.refresh()
        processes, queues = self._config.processes, tuple(self._queues)
        self._facts.emit(
            telemetry.SupervisorStarted(self._client_id, processes, queues, repr(self._storage))
        )
        if self._doubt is not None:
            self._facts.emit(self._doubt)
        self._facts.subscribe(self._reports.note, successes=False)
        self._start_loops()

    def _start_loops(self) -> None:
        runners, link = self._runners, StorageLink()
        self._claims.share(link)
        link.join(self._acks.backoff, runners["ack"].wake)
        link.join(self._lease_loop.backoff, runners["lease"].wake)
        link.join(self._listener.backoff, runners["listen"].wake)
        link.join(self._maintenance.backoff, runners["maintain"].wake)
        link.join(self._periodic.backoff, runners["periodic"].wake)
        link.join(self._reports.backoff, runners["report"].wake)
        if self.settings:
            link.join(self.settings.backoff, runners["settings"].wake)
            runners["settings"].start(self.settings.step)
        runners["claim"].start(self._claims.step, close=self._claims.close)
        runners["ack"].start(self._acks.step)
        runners["listen"].start(self._listener.step, close=self._listener.close)
        runners["maintain"].start(self._maintenance.step)
        runners["periodic"].start(self._periodic.step)
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
        now = self._machine.clock()
        if timeout_s is None:
            timeout_s = self._time_left_s(now)
        self._drain_for(timeout_s, now)

    def drain(self) -> None:
        """Begins to stop where nobody has told it so; a `stop` after that is the first one."""
        if self._drain_until is None:
            self._drain_for(self._config.drain_timeout_s, self._machine.clock())

    def _drain_for(self, timeout_s: float, now: float) -> None:
        self._drain_until = now + timeout_s
        self._facts.emit(telemetry.SupervisorDraining(timeout_s))
        self._runners["claim"].stop()
        self.engine.post(DrainRequested(self._drain_until))

    def _time_left_s(self, now: float) -> float:
        given_s = (self._config.drain_timeout_s, HASTE_S, 0.0)[min(self._stops, 3) - 1]
        if self._drain_until is None:
            return given_s
        return max(0.0, min(given_s, self._drain_until - now))

    def end(self) -> Iterator[tuple[LoopRunner, float]]:
        """Stores what is left to store. The lease is renewed until that is done.

        Yields whose end is to be waited for before it goes on, and for how many seconds at most.
        """
        runners = self._runners
        for name in ("claim", "listen", "maintain", "settings", "periodic", "lag"):
            runners[name].stop()
        self._listener.interrupt()
        deadline = self._machine.clock() + FLUSH_S
        yield runners["claim"], FLUSH_S
        self.engine.give_back()
        self._tell_given_back()
        self._facts.emit(telemetry.SupervisorFlushing(self._acks.unacknowledged))
        self._acks.finish_by(deadline)
        runners["ack"].finish()
        yield runners["ack"], max(0.0, deadline - self._machine.clock()) + 1.0
        if self._keyed is not None:
            # No process is left that could be at work for a key.
            self._keyed.give_back_all()
        runners["lease"].stop()
        self._facts.unsubscribe(self._reports.note)
        self._reports.finish()
        runners["report"].finish()
        for name in ("listen", "maintain", "settings", "periodic", "lease", "report", "lag"):
            yield runners[name], 1.0
        unstored = self._acks.unacknowledged
        if unstored:
            self._facts.emit(telemetry.OutcomesUnstored(unstored))
        self._facts.emit(telemetry.SupervisorStopped(unstored))

    # -- what the loops tell ----------------------------------------------------------------------

    def activity(self) -> list[SlotStatus]:
        """Returns what each slot's worker does; may be called from any thread."""
        now = self._machine.clock()
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
        rooms = self.pool.rooms()
        wanted = self.pool.demand(rooms) if room > 0 and self._has_plain else {}
        urgent = self.pool.urgent() if room > 0 and self._has_plain else {}
        weighted = self.pool.weighted_demand() if room > 0 else {}
        demand = {name: min(count, room) for name, count in wanted.items()}
        news = self.pool.keyed.news()
        self._claims.set_demand(Demand(demand, urgent, self.pool.claims, rooms, weighted, *news))

    def _count_at_hand(self) -> int:
        return self.pool.backlog.count + sum(len(slot.in_flight) for slot in self.pool.slots)

    def _on_hints(self, hints: Hints | None) -> None:
        """Wakes up only who is meant: all of them would be in each other's way."""
        if hints is None or hints.queues:
            self._claims.look_now(None if hints is None else hints.queues)
        if hints is None or hints.requests:
            self._runners["maintain"].wake()
            self._runners["report"].wake()
        if self.settings and (hints is None or hints.settings):
            self.settings.read_soon()

    def _on_return(self) -> None:
        """It was away, and may be another server, without all that the former one had."""
        self._claims.reconcile_soon()
        if self.settings:
            self.settings.read_soon()

    def _on_regaining(self) -> None:
        """Others may have relied on the end of the lease, also if it was not noticed here.

        What was set meanwhile holds before anything begins.
        """
        self.engine.post(LeaseChanged(is_over=True))
        if self.settings:
            self.settings.refresh()

    def _on_beat(self, beat: Beat) -> None:
        if self.settings:
            self.settings.noticed(beat.revision)
        self._beats += 1
        if self._beats % BEATS_A_TTL == 0:
            self._claims.reconcile_soon()
        if self.pool.fenced:
            self.engine.post(Tick())

    def _on_newer_schema(self, version: int) -> None:
        self._problem = SchemaMismatch(
            f"the schema was brought to version {version} while this supervisor ran, which knows "
            "an older one: start a newer synk"
        )
        self.stop()

    def _on_lease_lost(self, reason: str) -> None:
        """Others may have its jobs: all of them are killed at once, and no outcome counts."""
        self._facts.emit(telemetry.LeaseRevoked(reason))
        self.has_lost_its_lease = self._drain_until is None
        self._runners["claim"].stop()
        self.engine.post(LeaseChanged(is_over=True))
        self.engine.post(DrainRequested(self._machine.clock()))
