"""A supervisor: the engine, its loops, and the order in which all of it stops.

The stop: no more claims; jobs that have not begun go back uncharged; running jobs get their time,
then they are killed and go back uncharged; the last outcomes are stored; everything is closed. A
second signal leaves them little time, and a third none.
"""

from __future__ import annotations

import datetime as dt
import os
import resource
import socket
import sys
import threading
import time
from importlib import metadata
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.core.limits import QueueLimits, Recycling
from synk.core.messages import DrainRequested, LeaseExpired, Tick
from synk.core.ownership import BEATS_A_TTL, OwnLease
from synk.core.pool import Pool
from synk.errors import ConfigurationError, SchemaMismatch
from synk.retry import Verdict
from synk.runtime.forkserver import monkey_patches
from synk.runtime.ipc import process_role
from synk.runtime.supervisor import grace_period
from synk.runtime.supervisor.ack_loop import AckLoop
from synk.runtime.supervisor.backoff import StorageLink
from synk.runtime.supervisor.claim_loop import ClaimLoop
from synk.runtime.supervisor.engine import Engine
from synk.runtime.supervisor.lag_loop import LagLoop
from synk.runtime.supervisor.lease_loop import LeaseLoop, boottime
from synk.runtime.supervisor.listen_loop import ListenLoop
from synk.runtime.supervisor.maintenance_loop import MaintenanceLoop
from synk.runtime.supervisor.report_loop import ReportLoop, slot_status
from synk.status import ClientStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
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
        _check_place()
        _check_machine(queues, engine)
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
        self._acks = AckLoop(storage, owner, facts, held_bytes=engine.max_held_bytes)
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
        self._watch = ReportLoop(storage, self._engine, self._status, facts)
        self._lag = LagLoop(self._engine, facts)
        link = StorageLink()
        for loop in (
            *(self._claims, self._acks, self._lease_loop),
            *(self._listener, self._maintenance, self._watch),
        ):
            loop.share(link)

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
        threads = [self._thread(name, loop) for name, loop in self._loops()]
        self._facts.emit(
            telemetry.SupervisorStarted(
                self._client_id, self._config.processes, tuple(self._queues), repr(self._storage)
            )
        )
        if self._doubt is not None:
            self._facts.emit(self._doubt)
        switch_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        for thread in threads:
            thread.start()
        try:
            self._engine.run()
        finally:
            self._finish(threads)
            sys.setswitchinterval(switch_s)
        if self._problem is not None:
            raise self._problem

    def _loops(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "claim", self._claims.run
        yield "ack", self._acks.run
        yield "listen", self._listener.run
        yield "maintain", self._maintenance.run
        yield "watch", self._watch.run
        yield "lease", self._lease_loop.run
        yield "lag", self._lag.run

    def _thread(self, name: str, loop: Callable[[], None]) -> threading.Thread:
        """Returns a thread whose failure, a bug, ends the supervisor instead of crippling it."""

        def run() -> None:
            try:
                loop()
            except BaseException as error:  # noqa: BLE001 - raised again by `Supervisor.run`
                self._problem = error
                self.stop(0.0)

        return threading.Thread(target=run, name=f"synk-{name}", daemon=True)

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
        self._claims.stop()
        self._engine.post(DrainRequested(self._drain_until))

    def _time_left_s(self, now: float) -> float:
        given_s = (self._config.drain_timeout_s, HASTE_S, 0.0)[min(self._stops, 3) - 1]
        if self._drain_until is None:
            return given_s
        return max(0.0, min(given_s, self._drain_until - now))

    def _finish(self, threads: list[threading.Thread]) -> None:
        """Stores what is left to store. The lease is renewed until that is done."""
        self._claims.stop()
        self._listener.stop()
        self._maintenance.stop()
        self._lag.stop()
        claim, ack, listen, maintain, watch, lease, lag = threads
        deadline = time.monotonic() + FLUSH_S
        claim.join(FLUSH_S)
        self._engine.give_back()
        self._tell_given_back()
        self._facts.emit(telemetry.SupervisorFlushing(self._acks.unacknowledged))
        self._acks.finish_by(deadline)
        ack.join(max(0.0, deadline - time.monotonic()) + 1.0)
        self._lease_loop.stop()
        self._watch.stop()
        for thread in (listen, maintain, lease, watch, lag):
            thread.join(1.0)
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
            self._maintenance.look_now()
            self._watch.look_now()

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
        self._claims.stop()
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


def _check_place() -> None:
    """Refuses to start where a supervisor cannot be.

    Raises:
        ConfigurationError: in a worker process, while one imports the script, or not on Linux.
    """
    if process_role.role is not process_role.ProcessRole.OUTSIDE:
        raise ConfigurationError(
            "start",
            os.path.basename(sys.argv[0] or "?"),  # noqa: PTH119 - a name to show
            "was called while a worker process imports this module; put the call under "
            "`if __name__ == '__main__':`",
        )
    if (library := monkey_patches.library()) is not None:
        raise ConfigurationError(
            "start",
            library,
            "has patched this process (monkey_patch), and a supervisor needs real threads: "
            "start it where nothing is patched; inserting works in both",
        )
    if sys.platform != "linux":
        raise ConfigurationError("start", sys.platform, "worker processes need Linux")


def _check_machine(queues: Mapping[str, QueueConfig], engine: EngineConfig) -> None:
    """Refuses settings that this machine cannot keep.

    Raises:
        ConfigurationError: a CPU that this process may not use, or a limit that does not exist.
    """
    allowed = os.sched_getaffinity(0)
    for name, queue in queues.items():
        if not set(queue.cpus or ()) <= allowed:
            raise ConfigurationError(
                f"queues[{name!r}].cpus", set(queue.cpus or ()), f"must be some of {allowed}"
            )
    for name in engine.rlimits:
        if not hasattr(resource, f"RLIMIT_{name}"):
            raise ConfigurationError("rlimits", name, "is no limit, such as NOFILE or AS")
