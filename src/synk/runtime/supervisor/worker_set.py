"""The processes of one supervisor: those at work, those that come next, their births and deaths.

The fork server makes and buries them on request; what comes of that is told to the engine's loop as
events for the pool.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, assert_never

from synk.core.messages import (
    DrainRequested,
    Exit,
    KillReason,
    Report,
    Tick,
    WorkerExited,
    WorkerReady,
)
from synk.runtime.ipc import linux
from synk.runtime.supervisor import start_failures
from synk.runtime.supervisor.fork_server_process import (
    STACK_WAIT_S,
    ForkServerLost,
    ForkServerProcess,
    ImportWarned,
    ModulesImported,
    WorkerEnded,
    WorkerForked,
    preparation,
)
from synk.runtime.supervisor.memory_sampler import OomWatch
from synk.runtime.supervisor.output_lines import Passer
from synk.runtime.supervisor.selector import Source
from synk.runtime.supervisor.worker_process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from synk.claim import ClaimedJob
    from synk.config import EngineConfig
    from synk.core.messages import Event, Kill
    from synk.runtime.ipc.setup import Setup
    from synk.runtime.supervisor.selector import Selector

BURIAL_S: Final = 5.0
"""A worker dead for so long without word from the fork server: that is replaced too then."""

_PASS_ON_S: Final = 1.0
"""How long the last output may take to be passed on, at the end."""


class WorkerSet:
    """One process for each slot that the pool wants filled, and the one that makes them.

    Args:
        config: how they are made.
        setup: what each is told.
        selector: hears of them.
        tell: takes what happens to them, at once or in its turn.
        is_draining: says whether no more of them are wanted.
        job_of: says which job a slot's process was given by a number.

    Raises:
        ConfigurationError: handlers live in a program that has no file.
    """

    def __init__(
        self,
        config: EngineConfig,
        setup: Setup,
        selector: Selector,
        *,
        tell: Callable[[Event], None],
        is_draining: Callable[[], bool],
        job_of: Callable[[int, int], ClaimedJob | None],
    ) -> None:
        self._config = config
        self._setup = setup
        self._selector = selector
        # Handlers that live in the main script are found in it by their name.
        self._prepare = preparation(needs_main=b"__main__" in setup.payload)
        self._tell = tell
        self._is_draining = is_draining
        self._job_of = job_of
        self.processes: dict[int, WorkerProcess] = {}
        """Those at work, or about to be, by slot."""
        self._successors: dict[int, WorkerProcess] = {}
        """Made ahead, for slots whose process is dying: it takes as long to die as these to begin.
        Nothing is heard of them until they take over."""
        self._kill_at: dict[int, float] = {}
        self._killed: dict[int, KillReason] = {}
        """Why a slot's process is being killed."""
        self._dead_since: dict[int, float] = {}
        """Slots whose process is dead and not buried yet."""
        self._oom = OomWatch()
        self._passer = Passer()
        self._fork_server: ForkServerProcess | None = None
        self.warn: Callable[[str], None] = lambda _: None
        """Called with what an operator should know of how workers begin; must not block."""
        self.tell_unready: Callable[[str], None] = lambda _: None
        """Called when one has ended that was never ready; must not block."""
        self.problem: str | None = None
        """Why workers cannot be made, if so."""

    @property
    def is_loaded(self) -> bool:
        """Whether the handlers' modules are imported."""
        return self._fork_server is not None and self._fork_server.is_loaded

    def next_at(self) -> Iterator[float]:
        """Yields when `finish_kills` has something to do, on the monotonic clock."""
        yield from self._kill_at.values()
        for since in self._dead_since.values():
            yield since + BURIAL_S
        if self._fork_server is not None and self._fork_server.end_at is not None:
            yield self._fork_server.end_at

    def start(self) -> None:
        """Starts the fork server."""
        self._fork_server = ForkServerProcess(self._config, self._setup, self._prepare)
        self._selector.watch(self._fork_server.control.fileno(), Source.FORK_SERVER)

    def close(self) -> None:
        """Leaves no process behind."""
        for slot in list(self._successors):
            self._drop_successor(slot)
        for process in self.processes.values():
            process.kill()
        if self._fork_server is not None:
            self._fork_server.close()
        linux.kill_tagged(self._setup.client_id)
        for process in self.processes.values():
            process.read_output()
            process.close()
        self.processes.clear()
        self._passer.stop(_PASS_ON_S)

    # -- births -----------------------------------------------------------------------------------

    def spawn(self, slot: int) -> None:
        """Gives a slot its process: its successor, or a new one."""
        process = self._successors.pop(slot, None)
        if process is None:
            try:
                process = self._requested(slot)
            except OSError as error:
                exit_ = Exit(code=None, problem=f"no worker can be asked for: {error}")
                self.tell_unready(start_failures.failed(exit_))
                self._tell(WorkerExited(slot, Report(), 0, exit_))
                return
        self.processes[slot] = process
        self._selector.watch_channel(slot, process)
        self._selector.watch_outputs(slot, process.outputs)
        if process.pid:
            self._selector.watch(process.pidfd, Source.DEATH, slot)

    def _make_successor(self, slot: int) -> None:
        """Has the next process of a slot begin while the present one dies.

        If it comes to nothing, the slot gets its process in the usual way, and the trouble is told.
        """
        if not self._is_draining() and slot not in self._successors:
            with contextlib.suppress(OSError):
                self._successors[slot] = self._requested(slot)

    def _drop_successor(self, slot: int) -> None:
        process = self._successors.pop(slot)
        process.kill()
        process.close()

    def _requested(self, slot: int) -> WorkerProcess:
        fork_server = self._fork_server
        assert fork_server is not None  # noqa: S101 - for the type checker
        process = WorkerProcess(self._setup, self._passer, functools.partial(self._job_of, slot))
        try:
            fork_server.request(slot, process.descriptors)
        except OSError:
            process.close()
            raise
        return process

    # -- kills ------------------------------------------------------------------------------------

    def kill(self, command: Kill) -> None:
        """Kills a slot's process, with its stack if that says anything; see `finish_kills`."""
        process = self.processes[command.slot]
        self._killed[command.slot] = command.reason
        may_run = command.reason not in (KillReason.SHUTDOWN, KillReason.START, KillReason.DEAF)
        has_job = may_run and process.running
        wait_s = 0.0
        if has_job or command.reason is KillReason.START:
            process.kill_with_stack()
            wait_s = STACK_WAIT_S
        else:
            process.kill()
        if has_job:
            self._make_successor(command.slot)
        self._kill_at[command.slot] = time.monotonic() + wait_s

    def finish_kills(self, now: float) -> None:
        """Kills what did not die of its stack, and the fork server if it buries no dead."""
        for slot, deadline in list(self._kill_at.items()):
            process = self.processes[slot]
            if now >= deadline and process.pid:
                del self._kill_at[slot]
                process.kill()
            elif now >= deadline + BURIAL_S:
                # Never born: the fork server does not answer.
                self._kill_fork_server()
        if any(now >= since + BURIAL_S for since in self._dead_since.values()):
            self._kill_fork_server()
        if self._fork_server is not None:
            self._fork_server.end_if_late(now)

    def _kill_fork_server(self) -> None:
        self._kill_at.clear()
        self._dead_since.clear()
        if self._fork_server is not None:
            self._fork_server.kill()

    # -- news -------------------------------------------------------------------------------------

    def on_death(self, slot: int, pidfd: int) -> None:
        """A process is dead; the fork server kills what it left, and then tells how it ended."""
        process = self.processes.get(slot)
        if process is not None and process.pidfd == pidfd:
            self._selector.forget(pidfd)
            self._dead_since[slot] = time.monotonic()
            if process.is_ready:
                self._make_successor(slot)

    def on_fork_server(self) -> None:
        """The fork server has something to say."""
        fork_server = self._fork_server
        if fork_server is None:
            return
        for news in fork_server.news():
            match news:
                case ImportWarned():
                    self.warn(news.text)
                case ModulesImported():
                    self._on_loaded(news)
                case WorkerForked():
                    self._on_started(news)
                case WorkerEnded():
                    self._on_ended(news)
                case ForkServerLost():
                    self._on_lost(fork_server)
                case _:
                    assert_never(news)

    def _on_loaded(self, news: ModulesImported) -> None:
        for name, problem in news.problems.items():
            self.problem = f"{name}: {problem}"
        if self.problem is not None:
            self._tell(DrainRequested(time.monotonic()))
            return
        self._tell(Tick())

    def _on_started(self, news: WorkerForked) -> None:
        successor = self._successors.get(news.slot)
        if successor is not None and not successor.pid:
            if news.problem:
                self._drop_successor(news.slot)
            else:
                successor.born(news.pid, news.pidfd)
            return
        process = self.processes.get(news.slot)
        if process is None or news.problem:
            if news.pidfd >= 0:
                os.close(news.pidfd)
            if process is not None:
                self._bury(news.slot, None, problem=news.problem)
            return
        process.born(news.pid, news.pidfd)
        self._selector.watch(news.pidfd, Source.DEATH, news.slot)
        if news.slot in self._kill_at:
            # Its end was decided before it was there.
            process.kill()
        if process.is_ready:
            # It was faster than the news of its birth, and nobody was told.
            self._tell(WorkerReady(news.slot, process.pid))

    def _on_ended(self, news: WorkerEnded) -> None:
        for slot, process in self.processes.items():
            if process.pid == news.pid:
                self._bury(slot, news)
                return
        for slot, process in self._successors.items():
            if process.pid == news.pid:
                self._drop_successor(slot)
                return

    def _bury(
        self, slot: int, ended: WorkerEnded | None, *, problem: str = "", lost: bool = False
    ) -> None:
        process = self.processes.pop(slot)
        reason = self._killed.pop(slot, None)
        for times in (self._kill_at, self._dead_since):
            times.pop(slot, None)
        self._selector.forget_slot(slot, process)
        report, taken = process.recall()
        exit_ = process.bury(ended, problem=problem)
        if exit_.signal == "SIGKILL" or lost:
            exit_ = replace(exit_, by_kernel=self._oom.rose(), engine_failed=lost)
        process.close()
        if reason is KillReason.START:
            text = start_failures.late(self._config.start_timeout_s, exit_.stack)
            self.tell_unready(text)
            exit_ = replace(exit_, problem=f"{text}\n{exit_.stack}".strip())
        elif reason is None and not lost and not process.is_ready:
            self.tell_unready(start_failures.failed(exit_))
        self._tell(WorkerExited(slot, report, taken, exit_))

    def _on_lost(self, fork_server: ForkServerProcess) -> None:
        """Its workers die with it, by no fault of their jobs; another one takes its place."""
        self._selector.forget(fork_server.control.fileno())
        for process in self.processes.values():
            process.kill()
        was_loaded = fork_server.is_loaded
        problem = fork_server.bury()
        linux.kill_tagged(self._setup.client_id)
        for slot in list(self._successors):
            self._drop_successor(slot)
        self.tell_unready(problem.partition("\n")[0])
        if not was_loaded:
            self.problem = problem
            self._tell(DrainRequested(time.monotonic()))
        else:
            self.start()
        for slot in list(self.processes):
            self._bury(slot, None, problem=problem, lost=True)
