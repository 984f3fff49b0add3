"""The loop that turns the world into events for the pool, and the pool's commands into deeds.

One thread runs it. Other threads, and signal handlers, only `post` events. It never waits for the
database, and never for a worker: a process that does not read its channel costs nothing but itself.

Usable without a storage: whoever wants a pool of killable processes alone posts `Claimed` events
and gets `Settle` commands.
"""

from __future__ import annotations

import contextlib
import math
import queue
import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar, assert_never

from synk import retry
from synk.core import messages
from synk.core.slot import SlotState
from synk.errors import WorkerStartError
from synk.runtime.ipc.setup import setup_of
from synk.runtime.supervisor.memory_sampler import MemorySampler
from synk.runtime.supervisor.selector import Selector
from synk.runtime.supervisor.worker_set import WorkerSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from synk.config import EngineConfig, QueueConfig
    from synk.core.pool import Pool
    from synk.registry import Registry
    from synk.runtime.supervisor.worker_process import WorkerProcess
    from synk.telemetry import Telemetry

ANSWER_S: Final = 2.0
"""How long the loop may take to get to a question; longer, and it is on its way out."""

_ANSWER_PAUSE_S: Final = 0.05
"""Between two looks whether the loop is still there to answer."""

_LONGEST_WAIT_S: Final = 60.0

_RENEWED_S: Final = 0.05
"""By so much more a lease lasts if it was renewed; less is the noise of two clocks."""

T = TypeVar("T")


class Engine:
    """Worker processes under a pool's command.

    Args:
        pool: decides.
        config: how many processes, and how they are made.
        registry: the handlers that the workers get.
        queues: their settings, as far as workers must know them.
        client_id: tags the processes and their records.
        settle: called in the engine's thread with what is over; must not block.
        on_change: called in the engine's thread after events were handled; must not block.
        facts: told what an operator should know of how workers begin.
        lease_left_s: says for how many seconds work may go on.
        schema: where the jobs' table is, for `Job.complete_tx`.
        selector: what it waits for.
        clock: the clock of all its times.
        make_workers: makes the processes.

    Raises:
        ConfigurationError: a worker cannot be sent to a process.
    """

    def __init__(  # noqa: PLR0913 - the parts of an engine, the rarer ones by name
        self,
        pool: Pool,
        config: EngineConfig,
        registry: Registry,
        queues: Mapping[str, QueueConfig],
        *,
        client_id: str,
        settle: Callable[[messages.Settle], None],
        on_change: Callable[[], None],
        facts: Telemetry,
        lease_left_s: Callable[[], float] = lambda: math.inf,
        schema: str | None = None,
        selector: Selector | None = None,
        clock: Callable[[], float] = time.monotonic,
        make_workers: Callable[..., WorkerSet] = WorkerSet,
    ) -> None:
        self.pool = pool
        self._lease_left_s = lease_left_s
        self.clock = clock
        self._is_over = False
        """Whether the loop has ended, so that nobody answers any more."""
        self._begin_until = -math.inf
        """When the lease is over, as workers were told; infinite: they were not told."""
        self._settle = settle
        self._on_change = on_change
        self._memory_sampler = MemorySampler()
        self._inbox: deque[messages.Event] = deque()
        self._events: deque[messages.Event] = deque()
        self._calls: deque[Callable[[Mapping[int, WorkerProcess]], None]] = deque()
        self._selector = selector or Selector()
        self.worker_set = make_workers(
            config,
            setup_of(config, registry, queues, client_id, schema),
            self._selector,
            facts,
            tell=self._handle,
            is_draining=lambda: pool.draining,
            job_of=pool.job_of,
        )
        self._processes = self.worker_set.processes

    # -- for other threads and signal handlers ---------------------------------------------------

    def post(self, event: messages.Event) -> None:
        """Hands *event* to the loop; returns at once."""
        self._inbox.append(event)
        self._selector.wake()

    def call(self, function: Callable[[Mapping[int, WorkerProcess]], None]) -> None:
        """Has *function* called in the loop with the processes by slot; returns at once."""
        self._calls.append(function)
        self._selector.wake()

    def ask(self, function: Callable[[Mapping[int, WorkerProcess]], T]) -> T | None:
        """Returns what *function* returns in the loop; None if that does not get to it in time."""
        answers: queue.SimpleQueue[T] = queue.SimpleQueue()
        self.call(lambda processes: answers.put(function(processes)))
        deadline = time.monotonic() + ANSWER_S
        while not self._is_over and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=_ANSWER_PAUSE_S)
        return None

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        """Runs workers until a drain that was posted is complete.

        Raises:
            WorkerStartError: worker processes keep dying at their start.
        """
        try:
            self.worker_set.start()
            pause_s = 0.0
            while not self.pool.is_stopped:
                self._selector.wait(pause_s)
                pause_s = self.step(self.clock())
        finally:
            self.close()
        if self.worker_set.problem is not None:
            raise WorkerStartError(
                f"worker processes cannot be started:\n{self.worker_set.problem}"
            )

    def close(self) -> None:
        """After the last step: leaves no process behind, and keeps no job."""
        self._is_over = True
        self.worker_set.kill_all()
        self._take_in_the_last()
        self.worker_set.close()
        self.give_back()
        self._selector.close()

    def step(self, now: float) -> float:
        """Does what has come up, and what is due; returns the seconds until more of it is due."""
        left_s = self._lease_left_s()
        is_over = left_s <= 0
        if is_over and not self.pool.fenced:
            # Before anything else, since this process may have stood still until a moment ago.
            self._handle(messages.LeaseChanged(is_over=True))
        self._selector.call_ready()
        while self._inbox:
            self._handle(self._inbox.popleft())
        if not is_over and now + left_s > self._begin_until + _RENEWED_S:
            self._begin_until = now + left_s
            for slot in self._processes:
                self._limit(slot)
        if self.pool.fenced and not is_over:
            # After what was told before the lease was renewed: what was set meanwhile, and claims
            # of a moment when nothing might begin.
            self._handle(messages.LeaseChanged(is_over=False))
        while self._calls:
            self._calls.popleft()(self._processes)
        self._look_around()
        self._selector.call_due(now)
        for sampled in self._memory_sampler.due(now, self._processes, self.pool):
            self._handle(
                messages.Reported(sampled.slot, self._processes[sampled.slot].channel.report())
            )
            self._handle(sampled)
        deadline = self._pool_deadline()
        if deadline is not None and deadline <= self.clock():
            self.look_closer()
        self._on_change()
        return self._pause_s()

    def _limit(self, slot: int) -> None:
        """Has a worker begin nothing once the lease is over, also where this stands still then.

        One whose end is decided may have waited for that, with a job that it shall not begin.
        """
        is_doomed = self.pool.slots[slot].state is SlotState.KILLING
        if math.isfinite(self._begin_until) and not is_doomed:
            self._processes[slot].channel.may_begin_until(self._begin_until)

    def _pool_deadline(self) -> float | None:
        """Nothing is due before the modules are imported."""
        return (
            self.pool.next_deadline() if self.worker_set.is_loaded or self.pool.draining else None
        )

    def _pause_s(self) -> float:
        dues = (
            self._selector.next_at(),
            self._pool_deadline(),
            self._memory_sampler.next_at(self._processes),
        )
        now = self.clock()
        pauses_s = [_LONGEST_WAIT_S, *(due - now for due in dues if due is not None)]
        if not self.pool.fenced:
            pauses_s.append(self._lease_left_s())
        return max(0.0, min(pauses_s))

    def _look_around(self) -> None:
        """Takes in what workers have done, so that one of them need not wake this for each."""
        for slot, process in list(self._processes.items()):
            if process.channel.has_more_done:
                self._handle(messages.Reported(slot, process.channel.report()))

    def _take_in_the_last(self) -> None:
        """What workers have done counts, also where this loop has failed, and its pool perhaps."""
        with contextlib.suppress(Exception):
            for slot, process in self._processes.items():
                if process.channel.has_more_done:
                    event = messages.Reported(slot, process.channel.report())
                    for command in self.pool.handle(event, self.clock()):
                        if isinstance(command, messages.Settle):
                            self._settle(command)

    def look_closer(self) -> None:
        """Before the pool judges who is late, it gets what the status pages say now."""
        for slot, process in list(self._processes.items()):
            if process.channel.is_ready:
                self._handle(messages.Reported(slot, process.channel.report()))
        self._handle(messages.Tick())

    def _handle(self, event: messages.Event) -> None:
        """Has the pool handle *event*, and then what its commands bring up.

        Never one event within another: the commands of the first would come after those of the
        second, and batches would overtake each other.
        """
        self._events.append(event)
        if len(self._events) > 1:
            return
        while self._events:
            for command in self.pool.handle(self._events[0], self.clock()):
                self._perform(command)
            self._events.popleft()

    # -- deeds -----------------------------------------------------------------------------------

    def _perform(self, command: messages.Command) -> None:
        match command:
            case messages.Send():
                self._processes[command.slot].channel.send(
                    command.first, command.jobs, command.cpus
                )
            case messages.Settle():
                self._settle(command)
            case messages.Recall():
                report, taken = self._processes[command.slot].channel.recall()
                self._handle(messages.Recalled(command.slot, report, taken))
            case messages.Kill():
                self.worker_set.kill(command)
            case messages.Ask():
                self._processes[command.slot].ask(command.number, command.request)
            case messages.Spawn():
                self.worker_set.spawn(command.slot)
                if command.slot in self._processes:
                    self._limit(command.slot)
            case messages.Dismiss():
                self._processes[command.slot].dismiss()
            case messages.GiveUp():
                self.worker_set.problem = command.problem
                self.post(messages.DrainRequested(self.clock()))
            case _:
                assert_never(command)

    def give_back(self) -> None:
        """Settles, uncharged, what is held though no process is left.

        After an orderly drain that is nothing. It is called once more when no claim can be under
        way any more, for what the last one brought.
        """
        left = self.pool.abandon()
        held = {ended.job.id: ended for ended in left.ended}
        # An event that the pool failed on is still there, and half taken in perhaps.
        for events in (self._events, self._inbox):
            while events:
                event = events.popleft()
                if isinstance(event, messages.Claimed):
                    for job in event.jobs:
                        held.setdefault(job.id, retry.judge(job, retry.Verdict.RELEASED))
        if held or left.successes:
            self._settle(messages.Settle(left.successes, list(held.values())))
