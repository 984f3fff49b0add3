"""The loop that turns the world into events for the pool, and the pool's commands into deeds.

One thread runs it. Other threads, and signal handlers, only `post` events. It never waits for the
database, and never for a worker: a process that does not read its channel costs nothing but itself.

Usable without a storage: whoever wants a pool of killable processes alone posts `Claimed` events
and gets `Settle` commands.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import selectors
import signal
import socket
import sys
import time
import types
from collections import deque
from multiprocessing import forkserver, reduction, resource_tracker, spawn
from typing import TYPE_CHECKING, Any, Final, assert_never

from synk.core.messages import (
    Claimed,
    Dismiss,
    DrainRequested,
    Exit,
    GiveUp,
    Kill,
    KillReason,
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
from synk.retry import Ended, Verdict
from synk.runtime import child, linux, nursery
from synk.runtime.process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from synk.config import EngineConfig
    from synk.core.messages import Command, Event
    from synk.core.pool import Pool
    from synk.registry import Registry

STACK_WAIT_S: Final = 0.1
"""From the request for a stack to the SIGKILL, where the stack does not end the process before. A
dump takes about a millisecond, more on busy cores."""

_LONGEST_WAIT_S: Final = 60.0
_WAKE: Final = -1
"""The selector's key of the wake-up descriptor; other keys are slots."""


class Engine:
    """Worker processes under a pool's command.

    Args:
        pool: decides.
        config: how many processes, and how they are made.
        registry: the handlers that the workers get.
        client_id: tags the processes and their records.
        settle: called in the engine's thread with what is over; must not block.
        on_change: called in the engine's thread after events were handled; must not block.
    """

    def __init__(
        self,
        pool: Pool,
        config: EngineConfig,
        registry: Registry,
        *,
        client_id: str,
        settle: Callable[[Settle], None],
        on_change: Callable[[], None],
    ) -> None:
        self.pool = pool
        self._config = config
        self._registry = registry
        self._client_id = client_id
        self._settle = settle
        self._on_change = on_change
        self._context: Any = multiprocessing.get_context(config.start_method)
        self._processes: dict[int, WorkerProcess] = {}
        self._kill_at: dict[int, float] = {}
        self._inbox: deque[Event] = deque()
        self._events: deque[Event] = deque()
        self._workers = b""
        self._modules = tuple(
            name for name in (*config.preload, *registry.modules) if name != "__main__"
        )
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ, _WAKE)
        self._problem: str | None = None

    # -- for other threads and signal handlers ---------------------------------------------------

    def post(self, event: Event) -> None:
        """Hands *event* to the loop; returns at once."""
        self._inbox.append(event)
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        """Runs workers until a drain that was posted is complete.

        Raises:
            ConfigurationError: a worker cannot be sent to a process.
            WorkerStartError: worker processes keep dying at their start.
        """
        self._workers = self._pickled_workers()
        self._start_afresh()
        try:
            self._handle(Tick())
            while not self.pool.is_stopped:
                self._step()
        finally:
            self._kill_everything()
            self.give_back()
            self._selector.close()
            os.close(self._wake)
        if self._problem is not None:
            raise WorkerStartError(f"worker processes cannot be started:\n{self._problem}")

    def _step(self) -> None:
        for key, _ in self._selector.select(self._timeout_s()):
            slot, kind = divmod(key.data, 2) if key.data >= 0 else (_WAKE, 0)
            if slot == _WAKE:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            elif kind == 0:
                self._on_channel(slot)
            else:
                self._on_exit(slot)
        while self._inbox:
            self._handle(self._inbox.popleft())
        self._finish_kills()
        deadline = self.pool.next_deadline()
        if deadline is not None and deadline <= time.monotonic():
            self._look_closer()
        self._on_change()

    def _timeout_s(self) -> float:
        times = [*self._kill_at.values()]
        deadline = self.pool.next_deadline()
        if deadline is not None:
            times.append(deadline)
        if not times:
            return _LONGEST_WAIT_S
        return min(_LONGEST_WAIT_S, max(0.0, min(times) - time.monotonic()))

    def _look_closer(self) -> None:
        """Before the pool judges who is late, it gets what the pages say now."""
        for slot in list(self._processes):
            if self._processes[slot].is_ready:
                self._handle(Reported(slot, self._processes[slot].report()))
        self._handle(Tick())

    def _on_channel(self, slot: int) -> None:
        process = self._processes.get(slot)
        if process is None:
            return
        was_ready = process.is_ready
        report = process.report()
        if process.is_ready and not was_ready:
            self._handle(WorkerReady(slot))
        elif process.is_ready:
            self._handle(Reported(slot, report))
        if process.wants_flush:
            process.flush()
        self._watch_channel(slot, process)

    def _on_exit(self, slot: int) -> None:
        process = self._processes.pop(slot, None)
        if process is None:
            return
        self._kill_at.pop(slot, None)
        self._selector.unregister(process.channel)
        self._selector.unregister(process.pidfd)
        report, taken = process.recall()
        exit_ = process.bury()
        process.close()
        self._handle(WorkerExited(slot, report, taken, exit_))

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
                    self._watch_channel(command.slot, process)
            case Settle():
                self._settle(command)
            case Recall():
                report, taken = self._processes[command.slot].recall()
                self._handle(Recalled(command.slot, report, taken))
            case Kill():
                self._kill(command)
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
        if command.reason in (KillReason.TIMEOUT, KillReason.CANCELLED):
            process.kill_with_stack()
            self._kill_at[command.slot] = time.monotonic() + STACK_WAIT_S
        else:
            process.kill()

    def _finish_kills(self) -> None:
        now = time.monotonic()
        for slot, deadline in list(self._kill_at.items()):
            if now >= deadline:
                del self._kill_at[slot]
                self._processes[slot].kill()

    def _watch_channel(self, slot: int, process: WorkerProcess) -> None:
        events = selectors.EVENT_READ
        if process.wants_flush:
            events |= selectors.EVENT_WRITE
        if self._selector.get_key(process.channel).events != events:
            self._selector.modify(process.channel, events, slot * 2)

    def _spawn(self, slot: int) -> None:
        try:
            with self._environment_for_children():
                process = WorkerProcess(self._context, self._setup, f"synk-worker-{slot}")
        except (EOFError, OSError) as error:
            problem = f"the process that imports the handlers' modules died: {error!r}"
            self.post(WorkerExited(slot, Report(), 0, Exit(code=None, problem=problem)))
            return
        self._processes[slot] = process
        self._selector.register(process.channel, selectors.EVENT_READ, slot * 2)
        self._selector.register(process.pidfd, selectors.EVENT_READ, slot * 2 + 1)

    def _setup(
        self, channel: child.Descriptor, permits: child.Descriptor, page: child.Descriptor
    ) -> child.Setup:
        return child.Setup(
            client_id=self._client_id,
            host=socket.gethostname(),
            supervisor_pid=os.getpid(),
            modules=self._modules,
            workers=self._workers,
            channel=channel,
            permits=permits,
            page=page,
        )

    def give_back(self) -> None:
        """Settles, uncharged, what is held though no process is left.

        After an orderly drain that is nothing. It is called once more when no claim can be under
        way any more, for what the last one brought.
        """
        held = {job.id: job for job in self.pool.abandon()}
        # An event that the pool failed on is still there, and half taken in perhaps.
        for events in (self._events, self._inbox):
            while events:
                event = events.popleft()
                if isinstance(event, Claimed):
                    held.update({job.id: job for job in event.jobs})
        if held:
            ended = [Ended(job, Verdict.RELEASED) for job in held.values()]
            self._settle(Settle(ended=ended))

    def _kill_everything(self) -> None:
        """Leaves no process behind, however the loop ended."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.bury()
            process.close()
        self._processes.clear()
        _stop_forkserver()
        linux.kill_tagged(self._client_id)

    # -- how processes are made --------------------------------------------------------------------

    def _pickled_workers(self) -> bytes:
        for worker in self._registry.workers:
            try:
                reduction.ForkingPickler.dumps(worker)
            except Exception as error:  # noqa: BLE001 - whatever pickling complains of, by worker
                problem = f"cannot be sent to worker processes: {error}"
                raise ConfigurationError("workers", worker, problem) from None
        return bytes(reduction.ForkingPickler.dumps(self._registry.workers))

    @contextlib.contextmanager
    def _environment_for_children(self) -> Generator[None]:
        """What a new process inherits: the supervisor's tag, and what the nursery is to do.

        It is set for the moment only, and each time, since multiprocessing starts a new forkserver
        by itself when the old one is gone.

        The main script is hidden unless handlers live in it: multiprocessing imports it in every
        child, which for a command line tool is a waste, and for a script without a guard a trap.
        """
        main = sys.modules["__main__"]
        if "__main__" not in self._registry.modules:
            sys.modules["__main__"] = types.ModuleType("__main__")
        inherited = spawn.get_preparation_data("synk")
        settings = {
            "supervisor_pid": os.getpid(),
            "prepare": {
                name: value
                for name, value in inherited.items()
                if name in ("sys_path", "sys_argv", "init_main_from_name", "init_main_from_path")
            },
            "modules": self._modules,
        }
        os.environ[linux.TAG] = self._client_id
        if self._config.start_method == "forkserver":
            os.environ[nursery.SETTINGS] = json.dumps(settings)
        try:
            yield
        finally:
            os.environ.pop(nursery.SETTINGS, None)
            del os.environ[linux.TAG]
            sys.modules["__main__"] = main

    def _start_afresh(self) -> None:
        """Has the next process made by a forkserver with our nursery in it."""
        _stop_forkserver()
        forkserver.set_forkserver_preload([nursery.__name__])
        # Before the environment is ours: the tracker serves the whole program and is not tagged.
        resource_tracker.ensure_running()


def _stop_forkserver() -> None:
    server: Any = forkserver._forkserver  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - there is no public way
    if server._forkserver_pid is None:  # noqa: SLF001 - as above
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(server._forkserver_pid, signal.SIGKILL)  # noqa: SLF001 - as above
    server._stop()  # noqa: SLF001 - as above
