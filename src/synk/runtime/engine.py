"""The loop that turns the world into events for the pool, and the pool's commands into deeds.

One thread runs it. Other threads, and signal handlers, only `post` events. It never waits for the
database, and never for a worker: a process that does not read its channel costs nothing but itself.

Usable without a storage: whoever wants a pool of killable processes alone posts `Claimed` events
and gets `Settle` commands.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import time
import weakref
from collections import deque
from dataclasses import replace
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, Final, TypeVar, assert_never

from synk import retry
from synk.core.messages import (
    Ask,
    Claimed,
    Dismiss,
    DrainRequested,
    Exit,
    GiveUp,
    Kill,
    KillReason,
    LeaseLost,
    LeaseRenewed,
    Recall,
    Recalled,
    Report,
    Reported,
    Send,
    Settle,
    Spawn,
    Tick,
    WorkerExited,
    WorkerReady,
)
from synk.errors import ConfigurationError, WorkerStartError
from synk.runtime import linux
from synk.runtime.gauge import Gauge, OomWatch
from synk.runtime.lookout import Lookout, Source
from synk.runtime.nursery import Ended, Loaded, Lost, Nursery, Started
from synk.runtime.output import Passer
from synk.runtime.process import WorkerProcess
from synk.runtime.setup import QueueSetup, Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from synk.config import EngineConfig, QueueConfig
    from synk.core.messages import Command, Event
    from synk.core.pool import Pool
    from synk.registry import Registry
    from synk.runtime.lookout import Sign

STACK_WAIT_S: Final = 0.1
"""From the request for a stack to the SIGKILL, where the stack does not end the process before. A
dump takes about a millisecond, more on busy cores."""

ANSWER_S: Final = 2.0
"""How long the loop may take to get to a question; longer, and it is on its way out."""

_ANSWER_PAUSE_S: Final = 0.05
"""Between two looks whether the loop is still there to answer."""

BURIAL_S: Final = 5.0
"""A worker that is dead for so long without word from the nursery: then that is replaced too."""

_PASS_ON_S: Final = 1.0
"""How long the last output may take to be passed on, at the end."""

_LONGEST_WAIT_S: Final = 60.0

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
        schema: where the jobs' table is, for `Job.complete_tx`.
        lease_left_s: says for how many seconds work may go on; None: for ever.

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
        settle: Callable[[Settle], None],
        on_change: Callable[[], None],
        lease_left_s: Callable[[], float] | None = None,
        schema: str | None = None,
    ) -> None:
        self.pool = pool
        self._lease_left_s = lease_left_s
        self._is_over = False
        """Whether the loop has ended, so that nobody answers any more."""
        self._config = config
        self._registry = registry
        self._client_id = client_id
        self._settle = settle
        self._on_change = on_change
        self._processes: dict[int, WorkerProcess] = {}
        self._successors: dict[int, WorkerProcess] = {}
        """Made ahead, for slots whose process is dying: it takes as long to die as these to begin.
        Nothing is heard of them until they take over."""
        self._kill_at: dict[int, float] = {}
        self._dead_since: dict[int, float] = {}
        """Slots whose process is dead and not buried yet."""
        self._gauge = Gauge()
        self._oom = OomWatch()
        self._inbox: deque[Event] = deque()
        self._events: deque[Event] = deque()
        self._calls: deque[Callable[[Mapping[int, WorkerProcess]], None]] = deque()
        self._setup = _setup(config, registry, queues, client_id, schema)
        self._lookout = Lookout()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Open as long as anybody can post: the number may be another file's once it is closed.
        weakref.finalize(self, os.close, self._wake)
        self._lookout.watch(self._wake, Source.WAKE)
        self._passer = Passer()
        self._nursery: Nursery | None = None
        self._problem: str | None = None

    # -- for other threads and signal handlers ---------------------------------------------------

    def post(self, event: Event) -> None:
        """Hands *event* to the loop; returns at once."""
        self._inbox.append(event)
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def call(self, function: Callable[[Mapping[int, WorkerProcess]], None]) -> None:
        """Has *function* called in the loop with the processes by slot; returns at once."""
        self._calls.append(function)
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

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
            self._start_nursery()
            while not self.pool.is_stopped:
                self._step()
        finally:
            self._is_over = True
            self._kill_everything()
            self.give_back()
            self._lookout.close()
        if self._problem is not None:
            raise WorkerStartError(f"worker processes cannot be started:\n{self._problem}")

    def _step(self) -> None:
        signs = self._lookout.wait(self._timeout_s())
        self._mind_the_lease()
        for sign in signs:
            self._heed(sign)
        while self._inbox:
            self._handle(self._inbox.popleft())
        while self._calls:
            self._calls.popleft()(self._processes)
        now = time.monotonic()
        self._finish_kills(now)
        for slot in self._lookout.rested(now):
            if slot in self._processes:
                self._lookout.watch_outputs(slot, self._processes[slot].outputs)
        for sampled in self._gauge.due(now, self._processes, self.pool):
            self._handle(Reported(sampled.slot, self._report_of(sampled.slot)))
            self._handle(sampled)
        deadline = self._pool_deadline()
        if deadline is not None and deadline <= time.monotonic():
            self._look_closer()
        self._on_change()

    def _heed(self, sign: Sign) -> None:
        match sign.source:
            case Source.CHANNEL:
                self._on_channel(sign.slot)
            case Source.NURSERY:
                self._on_nursery()
            case Source.OUTPUT:
                self._on_output(sign.slot)
            case Source.DEATH:
                self._on_death(sign.slot, sign.fd)
            case Source.WAKE:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            case _:
                assert_never(sign.source)

    def _mind_the_lease(self) -> None:
        """Before anything else, since this process may have stood still until a moment ago."""
        if self._lease_left_s is None:
            return
        is_over = self._lease_left_s() <= 0
        if is_over != self.pool.fenced:
            self._handle(LeaseLost() if is_over else LeaseRenewed())

    def _pool_deadline(self) -> float | None:
        """Nothing is due before the modules are imported."""
        if self._nursery is None or not (self._nursery.is_loaded or self.pool.draining):
            return None
        return self.pool.next_deadline()

    def _timeout_s(self) -> float:
        times = [
            *self._kill_at.values(),
            *self._lookout.next_at(),
            *(since + BURIAL_S for since in self._dead_since.values()),
        ]
        others = (self._pool_deadline(), self._gauge.next_at(self._processes))
        times += [time_ for time_ in others if time_ is not None]
        if self._lease_left_s is not None and not self.pool.fenced:
            times.append(time.monotonic() + self._lease_left_s())
        if not times:
            return _LONGEST_WAIT_S
        return min(_LONGEST_WAIT_S, max(0.0, min(times) - time.monotonic()))

    def _look_closer(self) -> None:
        """Before the pool judges who is late, it gets what the pages say now."""
        for slot in list(self._processes):
            if self._processes[slot].is_ready:
                self._handle(Reported(slot, self._report_of(slot)))
        self._handle(Tick())

    def _on_channel(self, slot: int) -> None:
        process = self._processes.get(slot)
        if process is None:
            return
        was_ready = process.is_ready
        report = self._report_of(slot)
        if process.is_ready and process.pid:
            self._handle(Reported(slot, report) if was_ready else WorkerReady(slot, process.pid))
        if slot not in self._processes:
            return
        if process.wants_flush:
            process.flush()
        self._lookout.watch_channel(slot, process)

    def _report_of(self, slot: int) -> Report:
        return self._hear(slot, self._processes[slot].report)

    def _hear(self, slot: int, ask: Callable[[], T]) -> T:
        """Returns what a process says. It may close pipes, whose numbers others get then."""
        process = self._processes[slot]
        before = process.outputs
        answer = ask()
        if process.outputs != before:
            self._lookout.forget_outputs(before)
            self._lookout.watch_outputs(slot, process.outputs)
        if process.is_garbled:
            self._lookout.forget(process.channel.fileno())
            process.kill()
        return answer

    # -- output -----------------------------------------------------------------------------------

    def _on_output(self, slot: int) -> None:
        process = self._processes.get(slot)
        if process is None:
            return
        self._lookout.forget_outputs(process.outputs)
        process.read_output()
        if process.outputs:
            self._lookout.rest_outputs(slot, time.monotonic())

    # -- births and deaths ------------------------------------------------------------------------

    def _on_nursery(self) -> None:
        nursery = self._nursery
        if nursery is None:
            return
        for news in nursery.news():
            match news:
                case Loaded():
                    self._on_loaded(news)
                case Started():
                    self._on_started(news)
                case Ended():
                    self._on_ended(news)
                case Lost():
                    self._on_nursery_lost()
                case _:
                    assert_never(news)

    def _on_loaded(self, news: Loaded) -> None:
        for name, problem in news.problems.items():
            self._problem = f"{name}: {problem}"
        if self._problem is not None:
            self._handle(DrainRequested(time.monotonic()))
            return
        self._handle(Tick())

    def _on_started(self, news: Started) -> None:
        successor = self._successors.get(news.slot)
        if successor is not None and not successor.pid:
            if news.problem:
                self._drop_successor(news.slot)
            else:
                successor.born(news.pid, news.pidfd)
            return
        process = self._processes.get(news.slot)
        if process is None or news.problem:
            if news.pidfd >= 0:
                os.close(news.pidfd)
            if process is not None:
                self._bury(news.slot, None, problem=news.problem)
            return
        process.born(news.pid, news.pidfd)
        self._lookout.watch(news.pidfd, Source.DEATH, news.slot)
        if news.slot in self._kill_at:
            # Its end was decided before it was there.
            process.kill()
        if process.is_ready:
            # It was faster than the news of its birth, and nobody was told.
            self._handle(WorkerReady(news.slot, process.pid))

    def _on_death(self, slot: int, pidfd: int) -> None:
        """A process is dead; the nursery kills what it left, and then tells how it ended."""
        process = self._processes.get(slot)
        if process is not None and process.pidfd == pidfd:
            self._lookout.forget(pidfd)
            self._dead_since[slot] = time.monotonic()
            if process.is_ready:
                self._make_successor(slot)

    def _on_ended(self, news: Ended) -> None:
        for slot, process in self._processes.items():
            if process.pid == news.pid:
                self._bury(slot, news)
                return
        for slot, process in self._successors.items():
            if process.pid == news.pid:
                self._drop_successor(slot)
                return

    def _bury(
        self, slot: int, ended: Ended | None, *, problem: str = "", lost: bool = False
    ) -> None:
        process = self._processes.pop(slot)
        for times in (self._kill_at, self._dead_since):
            times.pop(slot, None)
        self._lookout.forget_slot(slot, process)
        self._gauge.forget(slot)
        report, taken = process.recall()
        exit_ = process.bury(ended, problem=problem)
        if exit_.signal == "SIGKILL" or lost:
            exit_ = replace(exit_, by_kernel=self._oom.rose(), engine_failed=lost)
        process.close()
        self._handle(WorkerExited(slot, report, taken, exit_))

    def _start_nursery(self) -> None:
        self._nursery = Nursery(
            self._config, self._setup, needs_main="__main__" in self._registry.modules
        )
        self._lookout.watch(self._nursery.control.fileno(), Source.NURSERY)

    def _on_nursery_lost(self) -> None:
        """Its workers die with it, by no fault of their jobs; another one takes its place."""
        assert self._nursery is not None  # noqa: S101 - for the type checker
        self._lookout.forget(self._nursery.control.fileno())
        for process in self._processes.values():
            process.kill()
        was_loaded = self._nursery.is_loaded
        self._nursery.close()
        linux.kill_tagged(self._client_id)
        for slot in list(self._successors):
            self._drop_successor(slot)
        problem = "the process that makes the workers died"
        if not was_loaded:
            self._problem = f"{problem} while it imported the handlers' modules"
            self._handle(DrainRequested(time.monotonic()))
        else:
            self._start_nursery()
        for slot in list(self._processes):
            self._bury(slot, None, problem=problem, lost=True)

    def _handle(self, event: Event) -> None:
        """Has the pool handle *event*, and then what its commands bring up.

        Never one event within another: the commands of the first would come after those of the
        second, and frames would overtake each other.
        """
        self._events.append(event)
        if len(self._events) > 1:
            return
        while self._events:
            for command in self.pool.handle(self._events[0], time.monotonic()):
                self._perform(command)
            self._events.popleft()

    # -- deeds -----------------------------------------------------------------------------------

    def _perform(self, command: Command) -> None:
        match command:
            case Send():
                process = self._processes[command.slot]
                process.send(command.first, command.jobs)
                if process.wants_flush:
                    self._lookout.watch_channel(command.slot, process)
            case Settle():
                self._settle(command)
            case Recall():
                process = self._processes[command.slot]
                report, taken = self._hear(command.slot, process.recall)
                self._handle(Recalled(command.slot, report, taken))
            case Kill():
                self._kill(command)
            case Ask():
                self._processes[command.slot].ask(command.number, command.request)
            case Spawn():
                self._spawn(command.slot)
            case Dismiss():
                self._processes[command.slot].dismiss()
            case GiveUp():
                self._problem = command.problem
                self.post(DrainRequested(time.monotonic()))
            case _:
                assert_never(command)

    def _kill(self, command: Kill) -> None:
        process = self._processes[command.slot]
        has_job = command.reason not in (KillReason.SHUTDOWN, KillReason.START, KillReason.DEAF)
        wait_s = 0.0
        if has_job and process.running:
            process.kill_with_stack()
            wait_s = STACK_WAIT_S
            self._make_successor(command.slot)
        else:
            process.kill()
        self._kill_at[command.slot] = time.monotonic() + wait_s

    def _finish_kills(self, now: float) -> None:
        for slot, deadline in list(self._kill_at.items()):
            process = self._processes[slot]
            if now >= deadline and process.pid:
                del self._kill_at[slot]
                process.kill()
            elif now >= deadline + BURIAL_S:
                # Never born: the nursery does not answer.
                self._kill_nursery()
        if any(now >= since + BURIAL_S for since in self._dead_since.values()):
            self._kill_nursery()

    def _kill_nursery(self) -> None:
        self._kill_at.clear()
        self._dead_since.clear()
        if self._nursery is not None:
            self._nursery.kill()

    def _spawn(self, slot: int) -> None:
        process = self._successors.pop(slot, None)
        if process is None:
            try:
                process = self._requested(slot)
            except OSError as error:
                problem = f"the process that makes the workers does not answer: {error}"
                self.post(WorkerExited(slot, Report(), 0, Exit(code=None, problem=problem)))
                return
        self._processes[slot] = process
        self._lookout.watch_channel(slot, process)
        self._lookout.watch_outputs(slot, process.outputs)
        if process.pid:
            self._lookout.watch(process.pidfd, Source.DEATH, slot)

    def _make_successor(self, slot: int) -> None:
        """Has the next process of a slot begin while the present one dies.

        If it comes to nothing, the slot gets its process in the usual way, and the trouble is told.
        """
        if not self.pool.draining and slot not in self._successors:
            with contextlib.suppress(OSError):
                self._successors[slot] = self._requested(slot)

    def _drop_successor(self, slot: int) -> None:
        process = self._successors.pop(slot)
        process.kill()
        process.close()

    def _requested(self, slot: int) -> WorkerProcess:
        nursery = self._nursery
        assert nursery is not None  # noqa: S101 - for the type checker
        process = WorkerProcess(self._setup, self._passer)
        try:
            nursery.request(slot, process.descriptors)
        except OSError:
            process.close()
            raise
        return process

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
                if isinstance(event, Claimed):
                    for job in event.jobs:
                        held.setdefault(job.id, retry.Ended(job, retry.Verdict.RELEASED))
        if held or left.successes:
            self._settle(Settle(left.successes, list(held.values())))

    def _kill_everything(self) -> None:
        """Leaves no process behind, however the loop ended."""
        for slot in list(self._successors):
            self._drop_successor(slot)
        for process in self._processes.values():
            process.kill()
        if self._nursery is not None:
            self._nursery.close()
        linux.kill_tagged(self._client_id)
        for process in self._processes.values():
            process.read_output()
            process.close()
        self._processes.clear()
        self._passer.stop(_PASS_ON_S)


def _setup(
    config: EngineConfig,
    registry: Registry,
    queues: Mapping[str, QueueConfig],
    client_id: str,
    schema: str | None,
) -> Setup:
    return Setup(
        client_id=client_id,
        host=socket.gethostname(),
        supervisor_pid=os.getpid(),
        modules=tuple(name for name in (*config.preload, *registry.modules) if name != "__main__"),
        payload=_payload(registry, config.on_worker_start),
        queues=_queue_setups(queues),
        schema=schema,
        no_new_privileges=config.no_new_privileges,
        rlimits=dict(config.rlimits),
    )


def _payload(registry: Registry, on_start: object) -> bytes:
    for worker in registry.workers:
        _pickled("workers", worker)
    _pickled("on_worker_start", on_start)
    return _pickled("workers", (registry.workers, on_start))


def _pickled(field: str, value: object) -> bytes:
    pickler: Any = reduction.ForkingPickler
    try:
        return bytes(pickler.dumps(value))
    except Exception as error:  # noqa: BLE001 - whatever pickling complains of
        problem = f"cannot be sent to worker processes: {error}"
        raise ConfigurationError(field, value, problem) from None


def _queue_setups(queues: Mapping[str, QueueConfig]) -> dict[str, QueueSetup]:
    return {
        name: QueueSetup(
            timeout_s=queue.job_timeout.total_seconds(),
            nice=queue.nice,
            cpus=tuple(sorted(queue.cpus or ())),
        )
        for name, queue in queues.items()
    }
