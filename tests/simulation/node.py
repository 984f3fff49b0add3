"""A supervisor in virtual time: the real loops and the real pool, with the waiting taken out.

What `synk.runtime.supervisor.supervisor` does with threads is done here by actors: each does one
step at a time, says when it wants the next, and stands still as long as its machine does. What they
decide is decided by the code that is under test: `Pool`, `OwnLease`, `ClaimLoop`, `AckLoop`,
`LeaseLoop` and `MaintenanceLoop`.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final
from uuid import UUID

from simulation.line import Line
from simulation.schedule import Schedule
from simulation.workers import Workers
from synk import telemetry
from synk.claim import ClaimedJob
from synk.config import QueueConfig
from synk.core import messages as m
from synk.core.ownership import BEATS_A_TTL, OwnLease
from synk.core.pool import Pool
from synk.errors import StorageError
from synk.retry import Verdict, judge
from synk.runtime.supervisor.ack_loop import AckLoop
from synk.runtime.supervisor.claim_loop import ClaimLoop
from synk.runtime.supervisor.lease_loop import LeaseLoop
from synk.runtime.supervisor.maintenance_loop import MaintenanceLoop
from synk.storage.statements import client_id_of
from synk.testing.making import status_of

TTL_S: Final = 6.0
FETCH_S: Final = 0.5
MAINTAIN_S: Final = 0.5
FLUSH_S: Final = 10.0
KIND: Final = "kind"
ACTORS: Final = ("boot", "engine", "claim", "ack", "lease", "maintain", "end")


class Crashed(BaseException):
    """The machine is gone, in the middle of something."""


class Actor:
    """Drives one of a supervisor's loops, as `LoopRunner` does with a thread."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._step: Callable[[float], float] = lambda _: math.inf
        self._due = math.inf
        self._close: Callable[[], None] = lambda: None
        self._is_finishing = False
        self._is_stopping = False
        self._is_busy = False
        self.has_ended = False

    def start(
        self,
        step: Callable[[float], float],
        seconds: float = 0.0,
        *,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Has the first step come in so many seconds."""
        self._step, self._close = step, close
        self.wake(seconds)

    def stop(self) -> None:
        """Ends it after the step that is under way."""
        self._is_stopping = True
        self.wake()

    def finish(self) -> None:
        """Ends it once it has nothing to do until it is woken."""
        self._is_finishing = True
        self.wake()

    def wake(self, seconds: float = 0.0) -> None:
        """Has it do a step in so many seconds at the latest."""
        due = self._node.schedule.now + seconds
        if due < self._due:
            self._due = due
            self._node.schedule.at(due, lambda: self._turn(due))

    def _turn(self, due: float) -> None:
        node = self._node
        if due != self._due or node.is_gone or self.has_ended:
            return
        self._due = math.inf
        if node.stands_still_until > node.schedule.now:
            self.wake(node.stands_still_until - node.schedule.now)
        elif self._is_busy:
            # In the middle of a step that waits for something.
            self.wake(0.01)
        else:
            self._run()

    def _run(self) -> None:
        self._is_busy = True
        is_last = self._is_finishing
        try:
            if self._is_stopping:
                self._close()
                self.has_ended = True
                return
            pause_s = self._step(self._node.clock())
        except Crashed:
            return
        finally:
            self._is_busy = False
        if pause_s < math.inf:
            self.wake(self._node.real_s(pause_s))
        elif is_last:
            self.has_ended = True


class Node:
    """One incarnation of a supervisor, from its start to its end.

    Args:
        on_end: called when it has ended by itself, and another one is to begin.
        complete: what its jobs do that complete themselves.
    """

    def __init__(
        self,
        schedule: Schedule,
        owner: UUID,
        chance: Random,
        facts: telemetry.Telemetry,
        *,
        make_line: Callable[[Callable[[float], None]], Line],
        make_lease: Callable[[float], OwnLease],
        on_end: Callable[[], None],
        complete: Callable[[UUID, ClaimedJob], bool],
    ) -> None:
        self.schedule = schedule
        self.owner = owner
        self.name = client_id_of(owner)[-2:]
        self._chance = chance
        self._rate = chance.uniform(0.99, 1.01)
        self._offset = chance.uniform(0, 1000)
        self._on_end = on_end
        self.is_gone = False
        self.stands_still_until = 0.0
        self.line = make_line(self._wait)
        self._inbox: deque[m.Event] = deque()
        self._beats = 0
        self._flush_until: float | None = None
        self.workers = Workers(
            schedule,
            chance,
            client_id_of(owner),
            clock=self.clock,
            settle=self._settle,
            wake=lambda: self._actors["engine"].wake(0.0005),
            complete=lambda job: complete(owner, job),
        )
        self._actors = {name: Actor(self) for name in ACTORS}
        self._make_loops(facts, make_lease(TTL_S))
        self._has_begun = False
        """Whether it is registered: its workers may be ready before that."""
        self._actors["boot"].start(self._boot)

    def _make_loops(self, facts: telemetry.Telemetry, lease: OwnLease) -> None:
        storage: Any = self.line
        engine: Any = self
        self._lease = lease
        self._facts = facts
        self._acks = AckLoop(storage, self.owner, facts, wake=self._actors["ack"].wake)
        self._claims = ClaimLoop(
            storage,
            engine,
            self._acks,
            self.owner,
            {"default": QueueConfig(time_fetch=dt.timedelta(seconds=FETCH_S))},
            [KIND],
            facts,
            wake=self._actors["claim"].wake,
            clock=self.clock,
        )
        self._lease_loop = LeaseLoop(
            storage,
            self.owner,
            lease,
            facts,
            on_beat=self._on_beat,
            on_return=self._claims.reconcile_soon,
            on_newer_schema=lambda _: None,
            on_lost=self._on_lost,
            clock=self.clock,
        )
        self._maintenance = MaintenanceLoop(
            storage,
            engine,
            self.owner,
            facts,
            lease_ttl_s=TTL_S,
            queues=["default"],
            cleaner=None,
            on_staged=self._claims.look_now,
            clock=self.clock,
        )

    # -- time -------------------------------------------------------------------------------------

    def clock(self) -> float:
        """Returns the time of this machine's own clock, which goes at a rate of its own."""
        return self._offset + self.schedule.now * self._rate

    def real_s(self, seconds: float) -> float:
        """Returns how long it takes until so many seconds have gone by on that clock."""
        return seconds / self._rate

    def _wait(self, seconds: float) -> None:
        self.schedule.pass_time(seconds)
        while not self.is_gone and self.stands_still_until > self.schedule.now:
            self.schedule.run_until(self.stands_still_until)
        if self.is_gone:
            raise Crashed

    # -- what the world does to it ----------------------------------------------------------------

    def stand_still(self, seconds: float) -> None:
        """Its processes are not run for a while, but for the workers."""
        self.stands_still_until = max(self.stands_still_until, self.schedule.now + seconds)

    def crash(self) -> None:
        self.is_gone = True
        self.workers.die_all()

    def drain(self, seconds: float) -> None:
        self._actors["claim"].stop()
        self.post(m.DrainRequested(self.clock() + seconds))

    # -- the engine, as the loops see it ----------------------------------------------------------

    @property
    def pool(self) -> Pool:
        return self.workers.pool

    def post(self, event: m.Event) -> None:
        self._inbox.append(event)
        self._actors["engine"].wake(self._chance.uniform(0, 0.002))

    def ask(self, function: Callable[[Any], Any]) -> Any:
        self._wait(self._chance.uniform(0, 0.003))
        if self._flush_until is not None:
            return None
        pause_s = self._turn(self.clock())
        if pause_s < math.inf:
            self._actors["engine"].wake(self.real_s(pause_s))
        return function({})

    def _settle(self, settle: m.Settle) -> None:
        self._acks.settle(settle)

    def _turn(self, now: float) -> float:
        if self._flush_until is not None or not self._has_begun:
            return math.inf
        is_over = self._lease.left_s(now) <= 0
        if is_over != self.pool.fenced:
            if is_over:
                self._facts.emit(telemetry.LeaseRanOut())
            self.workers.handle(m.LeaseExpired() if is_over else m.LeaseRenewed())
        self.workers.turn()
        while self._inbox:
            self.workers.handle(self._inbox.popleft())
        if self.pool.is_stopped:
            self._flush_until = self.schedule.now + FLUSH_S
            self._actors["claim"].stop()
            self._actors["maintain"].stop()
            self._actors["end"].start(self._end)
            return math.inf
        pool = self.pool
        self._claims.set_demand(pool.demand(pool.rooms()), pool.urgent(), pool.claims, pool.rooms())
        return self._seconds_to_the_next_turn()

    def _seconds_to_the_next_turn(self) -> float:
        now = self.clock()
        times = [] if self.pool.fenced else [now + self._lease.left_s(now)]
        deadline = self.pool.next_deadline()
        if deadline is not None:
            times.append(deadline)
        return max(0.001, min(times) - now) if times else math.inf

    # -- the loops, a step at a time --------------------------------------------------------------

    def _boot(self, sent_at: float) -> float:
        try:
            self.line.register_client(status_of(self.owner), dt.timedelta(seconds=TTL_S))
        except StorageError:
            # `Client.start` raises, and whoever runs it starts it again.
            self.crash()
            self._on_end()
            return math.inf
        self._lease.renewed(sent_at)
        self._has_begun = True
        steps = {
            "engine": self._turn,
            "ack": self._acks.step,
            "lease": self._lease_loop.step,
            "maintain": self._maintenance.step,
        }
        for name, step in steps.items():
            self._actors[name].start(step, self._chance.uniform(0, 0.05))
        self._actors["claim"].start(self._claims.step, close=self._claims.close)
        return math.inf

    def _on_beat(self) -> None:
        self._beats += 1
        if self._beats % BEATS_A_TTL == 0:
            self._claims.reconcile_soon()
        if self.pool.fenced:
            self.post(m.Tick())

    def _on_lost(self, reason: str) -> None:
        self._facts.emit(telemetry.LeaseRevoked(reason))
        self._actors["claim"].stop()
        self.post(m.LeaseExpired())
        self.post(m.DrainRequested(self.clock()))

    # -- the end, as `Supervisor._finish` does it -------------------------------------------------

    def _end(self, _now: float) -> float:
        assert self._flush_until is not None
        is_late = self.schedule.now >= self._flush_until
        if not self._actors["claim"].has_ended and not is_late:
            return 0.05
        self._give_back()
        self._acks.finish_by(self.clock() + max(0.0, self._flush_until - self.schedule.now))
        self._actors["ack"].finish()
        if not self._actors["ack"].has_ended and not is_late:
            return 0.05
        try:
            self.line.report_client(status_of(self.owner, stopped=True))
        except StorageError as error:
            self._facts.emit(telemetry.StorageFailing("stopping", str(error)))
        self.crash()
        self._on_end()
        return math.inf

    def _give_back(self) -> None:
        left = self.pool.abandon()
        ended = list(left.ended)
        while self._inbox:
            event = self._inbox.popleft()
            if isinstance(event, m.Claimed):
                ended += [judge(job, Verdict.RELEASED) for job in event.jobs]
        if ended or left.successes:
            self._settle(m.Settle(left.successes, ended))
