"""The processes of one supervisor: those at work, those that come next, how each begins and ends.

The fork server forks and reaps them on request. What they say, and what becomes of them, is told to
the engine's loop as events for the pool.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, assert_never

from synk import telemetry
from synk.core import messages
from synk.core.messages import KillReason, Report
from synk.core.verdicts import NOT_ITS_DOING
from synk.runtime.ipc import linux
from synk.runtime.supervisor import start_failures
from synk.runtime.supervisor.fork_server_process import (
    STACK_WAIT_S,
    ForkServerLost,
    ForkServerProcess,
    ModulesImported,
    WorkerEnded,
    WorkerForked,
    preparation,
)
from synk.runtime.supervisor.memory_sampler import OomWatch
from synk.runtime.supervisor.output_lines import StderrWriter
from synk.runtime.supervisor.worker_process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.claim import ClaimedJob
    from synk.config import EngineConfig
    from synk.runtime.ipc.setup import Setup
    from synk.runtime.supervisor.selector import Selector
    from synk.telemetry import Telemetry

REAP_S: Final = 5.0
"""A worker dead for so long without word from the fork server: that is replaced too then."""

_PASS_ON_S: Final = 1.0
"""How long the last output may take to be passed on, at the end."""


class WorkerSet:
    """One process for each slot that the pool wants filled, and the one that makes them.

    Args:
        config: how they are made.
        setup: what each is told.
        selector: hears of them.
        facts: told what an operator should know of how they begin.
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
        facts: Telemetry,
        *,
        tell: Callable[[messages.Event], None],
        is_draining: Callable[[], bool],
        job_of: Callable[[int, int], ClaimedJob | None],
    ) -> None:
        self._config = config
        self._setup = setup
        self._selector = selector
        self._facts = facts
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
        self._killed: dict[int, KillReason] = {}
        """Why a slot's process is being killed."""
        self._oom = OomWatch()
        self._stderr = StderrWriter()
        self._fork_server: ForkServerProcess | None = None
        self.problem: str | None = None
        """Why workers cannot be made, if so."""

    @property
    def is_loaded(self) -> bool:
        """Whether the handlers' modules are imported."""
        return self._fork_server is not None and self._fork_server.is_loaded

    def start(self) -> None:
        """Starts the fork server."""
        self._fork_server = ForkServerProcess(
            self._config, self._setup, self._prepare, self._selector
        )
        self._fork_server.listen(self._on_fork_server)

    def kill_all(self) -> None:
        """Ends all jobs that run; what their processes have done can still be read."""
        for slot in list(self._successors):
            self._drop_successor(slot)
        for process in self.processes.values():
            process.kill()

    def close(self) -> None:
        """After `kill_all`: leaves no process behind."""
        if self._fork_server is not None:
            self._fork_server.close()
        linux.kill_tagged(self._setup.client_id)
        for process in self.processes.values():
            process.close()
        self.processes.clear()
        self._stderr.stop(_PASS_ON_S)

    # -- starts -----------------------------------------------------------------------------------

    def spawn(self, slot: int) -> None:
        """Gives a slot its process: its successor, or a new one."""
        process = self._successors.pop(slot, None)
        if process is None:
            try:
                process = self._requested(slot)
            except OSError as error:
                exit_ = messages.Exit(code=None, problem=f"no worker can be asked for: {error}")
                self._tell_unready(start_failures.failed(exit_))
                self._tell(messages.WorkerExited(slot, Report(), 0, exit_))
                return
        self.processes[slot] = process
        process.listen(
            functools.partial(self._on_news, slot, process),
            functools.partial(self._on_exit, slot, process),
        )

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
        job_of = functools.partial(self._job_of, slot)
        process = WorkerProcess(self._setup, self._selector, self._stderr, job_of)
        try:
            fork_server.request(slot, process.descriptors)
        except OSError:
            process.close()
            raise
        return process

    # -- kills ------------------------------------------------------------------------------------

    def kill(self, command: messages.Kill) -> None:
        """Kills a slot's process, with its stack if that says anything."""
        slot, reason = command.slot, command.reason
        process = self.processes[slot]
        self._killed[slot] = reason
        has_job = reason not in NOT_ITS_DOING and process.running
        if has_job or reason is KillReason.START:
            process.kill_with_stack()
            self._call_in(STACK_WAIT_S, process.kill)
        else:
            process.kill()
        if has_job:
            self._make_successor(slot)
        if not process.pid:
            self._call_in(STACK_WAIT_S + REAP_S, self._unless_forked, slot, process)

    def _call_in(self, pause_s: float, function: Callable[..., None], *arguments: object) -> None:
        call = functools.partial(function, *arguments)
        self._selector.call_at(time.monotonic() + pause_s, call)

    def _unless_forked(self, slot: int, process: WorkerProcess) -> None:
        if not process.pid:
            self._unless_reaped(slot, process)

    def _unless_reaped(self, slot: int, process: WorkerProcess) -> None:
        """Kills the fork server if it has not reaped a process by now: it does not answer."""
        if self.processes.get(slot) is process and self._fork_server is not None:
            self._fork_server.kill()

    # -- news -------------------------------------------------------------------------------------

    def _on_news(self, slot: int, process: WorkerProcess) -> None:
        was_ready = process.channel.is_ready
        report = process.channel.report()
        if process.channel.is_ready and process.pid:
            ready = messages.WorkerReady(slot, process.pid)
            self._tell(messages.Reported(slot, report) if was_ready else ready)

    def _on_exit(self, slot: int, process: WorkerProcess) -> None:
        """The fork server kills what a dead process left, and then tells how it ended."""
        self._call_in(REAP_S, self._unless_reaped, slot, process)
        if process.channel.is_ready:
            self._make_successor(slot)

    def _on_fork_server(self) -> None:
        """The fork server has something to say."""
        fork_server = self._fork_server
        if fork_server is None:
            return
        for news in fork_server.news():
            match news:
                case ModulesImported():
                    self._on_imported(news)
                case WorkerForked():
                    self._on_forked(news)
                case WorkerEnded():
                    self._on_ended(news)
                case ForkServerLost():
                    self._on_lost(fork_server)
                case _:
                    assert_never(news)

    def _on_imported(self, news: ModulesImported) -> None:
        for warning in news.warnings:
            self._facts.emit(telemetry.WorkersDoubted(warning))
        for name, problem in news.problems.items():
            self.problem = f"{name}: {problem}"
        if self.problem is not None:
            self._tell(messages.DrainRequested(time.monotonic()))
            return
        self._tell(messages.Tick())

    def _on_forked(self, news: WorkerForked) -> None:
        successor = self._successors.get(news.slot)
        if successor is not None and not successor.pid:
            if news.problem:
                self._drop_successor(news.slot)
            else:
                successor.forked(news.pid, news.pidfd)
            return
        process = self.processes.get(news.slot)
        if process is None or news.problem:
            if news.pidfd >= 0:
                os.close(news.pidfd)
            if process is not None:
                self._remove(news.slot, None, problem=news.problem)
            return
        process.forked(news.pid, news.pidfd)
        if process.channel.is_ready:
            # It was faster than the news of it, and nobody was told.
            self._tell(messages.WorkerReady(news.slot, process.pid))

    def _on_ended(self, news: WorkerEnded) -> None:
        for slot, process in self.processes.items():
            if process.pid == news.pid:
                self._remove(slot, news)
                return
        for slot, process in self._successors.items():
            if process.pid == news.pid:
                self._drop_successor(slot)
                return

    def _remove(
        self, slot: int, ended: WorkerEnded | None, *, problem: str = "", lost: bool = False
    ) -> None:
        process = self.processes.pop(slot)
        reason = self._killed.pop(slot, None)
        report, taken = process.channel.recall()
        exit_ = process.exit_of(ended, problem=problem)
        if exit_.signal == "SIGKILL" or lost:
            exit_ = replace(exit_, by_kernel=self._oom.rose(), engine_failed=lost)
        process.close()
        if reason is KillReason.START:
            text = start_failures.late(self._config.start_timeout_s, exit_.stack)
            self._tell_unready(text)
            exit_ = replace(exit_, problem=f"{text}\n{exit_.stack}".strip())
        elif reason is None and not lost and not process.channel.is_ready:
            self._tell_unready(start_failures.failed(exit_))
        self._tell(messages.WorkerExited(slot, report, taken, exit_))

    def _tell_unready(self, how: str) -> None:
        self._facts.emit(telemetry.WorkerNotReady(how))

    def _on_lost(self, fork_server: ForkServerProcess) -> None:
        """Its workers die with it, by no fault of their jobs; another one takes its place."""
        for process in self.processes.values():
            process.kill()
        was_loaded = fork_server.is_loaded
        problem = fork_server.reap()
        linux.kill_tagged(self._setup.client_id)
        for slot in list(self._successors):
            self._drop_successor(slot)
        self._tell_unready(problem.partition("\n")[0])
        if not was_loaded:
            self.problem = problem
            self._tell(messages.DrainRequested(time.monotonic()))
        else:
            self.start()
        for slot in list(self.processes):
            self._remove(slot, None, problem=problem, lost=True)
