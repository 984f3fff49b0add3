"""A supervisor in virtual time: the real one, on a machine that is not.

What `Supervisor` has of its machine is the simulation's. The clock goes at a rate of its own;
runners have no thread, but take their turns when these are due, and stand still as long as the
machine does; worker processes are `Workers`. All that is decided, and in what order, is decided by
the code that is under test.

Two loops are left out: announcements make things quick, and nothing may depend on them; and the lag
loop looks for what only a real interpreter has.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from uuid import UUID

import synk
from simulation.line import Line
from simulation.schedule import Schedule
from simulation.workers import CORES, GRACE_S, HEAVY, MEMORY, SLOTS, TIMEOUT_S, Workers
from synk import telemetry
from synk.claim import ClaimedJob
from synk.config import EngineConfig, QueueConfig
from synk.core.ownership import OwnLease
from synk.errors import StorageError
from synk.periodic import Definition
from synk.registry import Registry
from synk.runtime.supervisor.engine import Engine
from synk.runtime.supervisor.loop_runner import LoopRunner
from synk.runtime.supervisor.supervisor import Machine, Supervisor
from synk.status import client_id_of

TTL_S: Final = 6.0
FETCH_S: Final = 0.5
KIND: Final = "kind"
KEYED_KIND: Final = "keyed"
LIMIT: Final = synk.Limit("limit", key="args.key", running=1)
TURN_S: Final = 0.0001
"""Every turn takes some time: else a pause that is less than the last digit of it has no end."""

LEFT_OUT: Final = ("listen", "lag")


@dataclass
class Args(synk.JobArgs, kind=KIND):
    pass


@dataclass
class KeyedArgs(synk.JobArgs, kind=KEYED_KIND):
    key: str


@synk.worker
def handler(_job: synk.Job[Args]) -> None:
    """Never called: what jobs do is up to `Workers`."""


@synk.worker(limit=LIMIT)
def keyed_handler(_job: synk.Job[KeyedArgs]) -> None:
    """Never called."""


@dataclass
class HeavyArgs(synk.JobArgs, kind="heavy"):
    pass


@dataclass
class RoomyArgs(synk.JobArgs, kind="roomy"):
    pass


@synk.worker(cores=HEAVY["heavy"][0])
def heavy_handler(_job: synk.Job[HeavyArgs]) -> None:
    """Never called."""


@synk.worker(memory=f"{HEAVY['roomy'][1]}GiB")
def roomy_handler(_job: synk.Job[RoomyArgs]) -> None:
    """Never called."""


QUEUES: Final = {
    "default": QueueConfig(
        time_fetch=dt.timedelta(seconds=FETCH_S), job_timeout=dt.timedelta(seconds=TIMEOUT_S)
    )
}
CONFIG: Final = EngineConfig(
    processes=SLOTS,
    lease_ttl_s=TTL_S,
    cancel_grace_s=GRACE_S,
    cores=CORES,
    memory=MEMORY << 30,
)
REGISTRY: Final = Registry([handler, keyed_handler, heavy_handler, roomy_handler])


class Crashed(BaseException):
    """The machine is gone, in the middle of something."""


class Actor(LoopRunner):
    """A runner without a thread."""

    def __init__(self, node: Node, name: str) -> None:
        super().__init__(name, _fail, clock=node.clock)
        self._node = node
        self._due = math.inf
        self._is_busy = False
        self.has_ended = name in LEFT_OUT

    def start(
        self, step: Callable[[float], float], *, close: Callable[[], None] = lambda: None
    ) -> None:
        self.step, self.close = step, close
        self.wake_in(self._node.chance.uniform(0, 0.05))

    def wake(self) -> None:
        self.wake_in(0.0)

    def wake_in(self, seconds: float) -> None:
        """Has it take a turn in so many seconds at the latest."""
        due = self._node.schedule.now + seconds
        if due < self._due and not self.has_ended:
            self._due = due
            self._node.schedule.at(due, lambda: self._happen(due))

    def _happen(self, due: float) -> None:
        node = self._node
        if due != self._due or node.is_gone or self.has_ended:
            return
        self._due = math.inf
        if node.stands_still_until > node.schedule.now:
            self.wake_in(node.stands_still_until - node.schedule.now)
        elif self._is_busy:
            # In the middle of a step that waits for something.
            self.wake_in(0.01)
        else:
            self._take_turn()

    def _take_turn(self) -> None:
        self._is_busy = True
        try:
            pause_s = self.turn()
            if pause_s is None:
                self.close()
                self.has_ended = True
            elif pause_s < math.inf:
                self.wake_in(max(TURN_S, self._node.real_s(pause_s)))
        except Crashed:
            return
        finally:
            self._is_busy = False


def _fail(error: BaseException) -> None:
    raise error


class NodeSelector:
    """Waits for nothing: the engine takes its steps when something has happened."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.call_ready: Callable[[], None] = lambda: None
        """Set by the workers, which tell by it what they have done."""

    def next_at(self) -> float | None:
        return None

    def call_due(self, now: float) -> None:
        pass

    def close(self) -> None:
        pass


class NodeEngine(Engine):
    """Whoever asks it something has it take a step, where others wait for one."""

    wait: Callable[[], None]

    def ask(self, function: Callable[[Any], Any]) -> Any:
        self.wait()
        answers: list[Any] = []
        if not self.pool.is_stopped:
            self.call(lambda processes: answers.append(function(processes)))
            self.step(self.clock())
        return answers[0] if answers else None


class Node:
    """One incarnation of a supervisor, from its start to its end.

    Args:
        on_end: called when it has ended by itself, and another one is to begin.
        complete: what its jobs do that complete themselves.
        periodic: what its code declares.
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
        periodic: Sequence[Definition],
    ) -> None:
        self.schedule = schedule
        self.owner = owner
        self.name = client_id_of(owner)[-2:]
        self.chance = chance
        self._rate = chance.uniform(0.99, 1.01)
        self._offset = chance.uniform(0, 1000)
        self._on_end = on_end
        self._complete = complete
        self.is_gone = False
        self.stands_still_until = 0.0
        self._engine_actor = Actor(self, "engine")
        self._end_actor = Actor(self, "end")
        self.line: Any = make_line(self._wait)
        machine = Machine(
            clock=self.clock,
            lease_clock=self.clock,
            make_runner=lambda name, _on_failure, *, clock: Actor(self, name),
            make_engine=self._make_engine,
            make_lease=make_lease,
        )
        self.supervisor = Supervisor(
            self.line,
            owner=owner,
            queues=QUEUES,
            registry=REGISTRY,
            engine=CONFIG,
            cleaner=None,
            facts=facts,
            periodic=periodic,
            machine=machine,
        )
        self.workers: Any = self.supervisor.engine.worker_set
        self._ends = self.supervisor.end()
        self._awaited: Any = None
        self._patient_until = 0.0
        Actor(self, "boot").start(self._boot)

    def _make_engine(self, *given: Any, **options: Any) -> NodeEngine:
        selector: Any = NodeSelector(self._wake_engine)
        make_workers: Any = functools.partial(
            Workers,
            schedule=self.schedule,
            chance=self.chance,
            clock=self.clock,
            complete=lambda job: self._complete(self.owner, job),
        )
        engine = NodeEngine(
            *given, **options, selector=selector, clock=self.clock, make_workers=make_workers
        )
        engine.wait = lambda: self._wait(self.chance.uniform(0, 0.003))
        return engine

    def _wake_engine(self) -> None:
        self._engine_actor.wake_in(self.chance.uniform(0, 0.002))

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
        self.supervisor.stop(seconds)

    # -- its main thread --------------------------------------------------------------------------

    def _boot(self, _now: float) -> float:
        try:
            self.supervisor.begin()
        except StorageError:
            # `Client.start` raises, and whoever runs it starts it again.
            self._leave()
        else:
            self.workers.start()
            self._engine_actor.start(self._engine_step)
        return math.inf

    def _engine_step(self, now: float) -> float:
        pause_s = self.supervisor.engine.step(now)
        if not self.supervisor.pool.is_stopped:
            return pause_s
        self._engine_actor.stop()
        self.supervisor.engine.close()
        self._end_actor.start(self._end)
        return math.inf

    def _end(self, _now: float) -> float:
        """Joins one runner after the other, for as long as it is told to wait for it."""
        while self._awaited is None or self._has_joined():
            try:
                self._awaited, patience_s = next(self._ends)
            except StopIteration:
                self._leave()
                return math.inf
            self._patient_until = self.clock() + patience_s
        return 0.05

    def _has_joined(self) -> bool:
        return self._awaited.has_ended or self.clock() >= self._patient_until

    def _leave(self) -> None:
        self.crash()
        self._on_end()
