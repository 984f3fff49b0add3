"""The fork server: it imports the handlers once, forks the workers, and buries them.

It is the parent of all workers and the adopter of whatever they leave behind, so three things are
exact that a supervisor could not know by itself: how a worker ended and what it used (wait4), that
no pid is taken for another (a zombie keeps its number until all its kin are killed), and that
nothing which a job started outlives its worker, also what called setsid. Each worker adopts its
own orphans while it lives; so a child of this process that is no worker is what a dead worker left.

It keeps one process more than was asked for, the spare, which has loaded the handlers and waits for
a slot. A request is answered with it at once, and the next spare is made when things are quiet
again. So a slot whose job was killed waits neither for a fork nor for the page faults of a fresh
copy, which together take longer than the kill.

It talks to its supervisor over one SOCK_SEQPACKET pair, and dies with it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

from synk.runtime.forkserver import fork_safety, monkey_patches
from synk.runtime.ipc import linux, packets, process_role
from synk.runtime.worker import handler_modules, reseeding
from synk.runtime.worker import main as worker_main
from synk.runtime.worker.forks import Forks
from synk.runtime.worker.restore import end_with_stack, let_stack_go

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WARNED: Final = b"W"
LOADED: Final = b"L"
STARTED: Final = b"S"
ENDED: Final = b"E"
"""The first byte of what the fork server says: an import may be trouble, imports are done (or not),
a worker began, one ended."""

SPARE_PAUSE_S: Final = 0.02
"""After so long without anything to do the fork server makes the next spare: not at once, since the
last one is about to begin its first job, and needs the CPU more."""

_SWEEP_S: Final = 2.0
"""How long the processes that a dead worker left may take to die of SIGKILL; one that hangs in the
kernel longer than this is left to it."""

_SWEEP_PAUSE_S: Final = 0.0005

_TRACKER_S: Final = 1.0
"""How long a resource tracker may take to unlink what a dead worker has left, /dev/shm's among it.
It begins when all that use it are dead, and needs some milliseconds."""


def main(control_fd: int) -> None:
    """Serves one supervisor until it closes the socket, or is gone."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    settings = json.loads(packets.receive(control))
    setup = packets.receive(control)
    process_role.take(process_role.ProcessRole.FORK_SERVER, settings["supervisor_pid"])
    linux.set_name("synk-forkserver")
    linux.bear_ending_signals()
    # While it imports there is nothing to clean up, and Python code may be slow to run a handler.
    linux.die_with_parent(signal.SIGKILL)
    _check_parent(settings)
    linux.adopt_orphans()
    forks = Forks()
    # If its imports hang, they are told by their stack.
    stacks = settings["stacks"]
    os.set_inheritable(stacks, False)  # noqa: FBT003 - its signature
    end_with_stack(stacks)
    imported = _load(settings)
    let_stack_go()
    os.close(stacks)
    with contextlib.suppress(ConnectionError):
        for warning in imported.warnings:
            packets.send(control, WARNED + json.dumps(warning).encode())
        packets.send(control, LOADED + json.dumps(imported.problems).encode())
    host = ForkServer(control, setup, settings["command"], forks, imported)
    signal.signal(signal.SIGUSR1, host.supervisor_died)
    linux.die_with_parent(signal.SIGUSR1)
    _check_parent(settings)
    host.run()


def _check_parent(settings: dict[str, Any]) -> None:
    if os.getppid() != settings["supervisor_pid"]:
        os._exit(1)


@dataclass(slots=True)
class Imported:
    """What came of the imports."""

    problems: dict[str, str] = field(default_factory=dict[str, str])
    """Module -> why it cannot be used in a process that forks."""
    warnings: list[str] = field(default_factory=list[str])
    to_reopen: list[int] = field(default_factory=list[int])
    generators: list[Callable[[], object]] = field(default_factory=list["Callable[[], object]"])

    def take_own(self) -> None:
        """In a process that was forked: gives it what the others must not share or repeat."""
        fork_safety.reopen(self.to_reopen)
        reseeding.renew(self.generators)


def _load(settings: dict[str, Any]) -> Imported:
    """Imports the program and the modules."""
    handler_modules.prepare_paths(settings["prepare"])
    modules, withheld = settings["modules"], settings["withheld"]
    if modules is None:
        return Imported()
    left = fork_safety.ForkSafety()
    loads = {"__main__": lambda: handler_modules.import_main(settings["prepare"])}
    loads |= {name: functools.partial(handler_modules.import_module, name) for name in modules}
    for name, load in loads.items():
        problem = handler_modules.problem_of(load, withheld)
        # A fork would wait for ever for the thread of this, which it does not have.
        faulthandler.cancel_dump_traceback_later()
        gc.collect()
        problem = problem or monkey_patches.problem() or left.problem_of(name)
        if problem is not None:
            return Imported(problems={name: problem})
    found, seeded = reseeding.generators(), reseeding.given_seeds()
    # What was imported is never collected, so the pages stay shared with the workers.
    gc.freeze()
    return Imported(warnings=[*left.warnings, *seeded], to_reopen=left.to_reopen, generators=found)


def _on_child(_signal: int, _frame: object) -> None:
    """There must be a handler for `set_wakeup_fd` to write."""


@dataclass(frozen=True, slots=True)
class Newborn:
    """A process that waits for a slot."""

    pid: int
    entrance: socket.socket
    """The other end is the process's."""

    def send_to(self, slot: int, fds: list[int]) -> bool:
        """Makes it the slot's worker, and lets go of it; returns False if it is dead."""
        with self.entrance, contextlib.suppress(ConnectionError):
            packets.send_with(self.entrance, str(slot).encode(), fds)
            return True
        return False


class ForkServer:
    """Has a worker for each request, and buries each that ends.

    Args:
        control: the socket to the supervisor.
        setup: what each worker is told.
        command: what to execute for a worker, without its arguments; empty: a fork is enough.
        forks: minds what is forked here.
        imported: what the workers inherit of the imports.
    """

    def __init__(
        self,
        control: socket.socket,
        setup: bytes,
        command: list[str],
        forks: Forks,
        imported: Imported,
    ) -> None:
        self._forks = forks
        self._imported = imported
        self._control = control
        self._setup = setup
        self._command = command
        self._workers: set[int] = set()
        """The pids of those that have a slot, until they are buried."""
        self._spare: Newborn | None = None
        self._wants_spare = not command
        """In a fresh interpreter a spare would be a whole worker's memory more."""
        self._kept = set(linux.children(os.getpid()))
        """What the imports started, such as multiprocessing's resource tracker."""
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self) -> None:
        """Serves until the supervisor closes the socket."""
        signal.signal(signal.SIGCHLD, _on_child)
        signal.set_wakeup_fd(self._wake_in, warn_on_full_buffer=False)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._selector.register(self._control, selectors.EVENT_READ)
        while True:
            ready = self._selector.select(SPARE_PAUSE_S if self._wants_spare else None)
            if not ready:
                self._make_spare()
            for key, _ in ready:
                if key.fileobj is self._control:
                    self._serve()
                else:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_out, 4096)
            self._bury_all()

    def supervisor_died(self, _signal: int, _frame: object) -> None:
        """The handler of the signal that the kernel sends when the supervisor is gone."""
        self._end()

    def _end(self) -> NoReturn:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        self._workers.clear()
        self._spare = None
        kept = {pid for pid in self._kept if not linux.is_resource_tracker(pid)}
        self._kept.clear()
        self._let_trackers_end()
        for pid in kept:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._sweep()
        os._exit(0)

    # -- births -----------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Answers one request; ends if there can be no more."""
        try:
            packet, fds = packets.receive_with(self._control, worker_main.SLOT_DESCRIPTORS)
        except ConnectionError:
            # So the kernel tells of a supervisor that is gone and has left news unread.
            packet, fds = b"", []
        if not packet:
            self._end()
        slot = json.loads(packet)
        try:
            pid = self._sent_to(slot, fds)
        except OSError as error:
            self._tell(STARTED, [slot, 0, str(error)])
        else:
            # The child is not reaped before this is sent, so its pid means nothing else here.
            fds.append(os.pidfd_open(pid))
            self._tell(STARTED, [slot, pid, ""], fds[-1:])
        for fd in fds:
            os.close(fd)
        self._wants_spare = not self._command

    def _tell(self, kind: bytes, news: list[Any], fds: Sequence[int] = ()) -> None:
        # That the supervisor is gone is noticed when it is listened to.
        with contextlib.suppress(ConnectionError):
            packets.send_with(self._control, kind + json.dumps(news).encode(), list(fds))

    def _sent_to(self, slot: int, fds: list[int]) -> int:
        """Returns the pid of the process that is the slot's worker now: the spare, or a new one."""
        chosen, self._spare = self._spare, None
        if chosen is None or not chosen.send_to(slot, fds):
            chosen = self._fork(fds)
            # If it is dead already, the supervisor hears of that as of any other death.
            chosen.send_to(slot, fds)
        self._workers.add(chosen.pid)
        return chosen.pid

    def _make_spare(self) -> None:
        self._wants_spare = False
        # If there can be no more processes now, it is tried again after the next request.
        with contextlib.suppress(OSError):
            self._spare = self._fork()

    def _fork(self, foreign_fds: Sequence[int] = ()) -> Newborn:
        """Makes a process that waits for a slot.

        Args:
            foreign_fds: what it must not keep open.

        Raises:
            OSError: there can be no more processes or descriptors.
        """
        fork_server_pid = os.getpid()
        entrance, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = self._forks.fork_worker()
            except OSError:
                entrance.close()
                raise
            if pid == 0:
                for fd in (entrance.detach(), *foreign_fds):
                    os.close(fd)
                self._become_worker(theirs.detach(), fork_server_pid)
        with contextlib.suppress(ConnectionError):
            packets.send(entrance, self._setup)
        return Newborn(pid, entrance)

    def _become_worker(self, entrance_fd: int, fork_server_pid: int) -> None:
        """In the new process: goes on as a worker, and never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)
            self._selector.close()
            self._control.close()
            os.close(self._wake_out)
            os.close(self._wake_in)
            if self._command:
                os.set_inheritable(entrance_fd, True)  # noqa: FBT003 - its signature
                arguments = [str(entrance_fd), str(fork_server_pid)]
                signal.pthread_sigmask(signal.SIG_BLOCK, linux.ENDING_SIGNALS)
                os.execv(self._command[0], [*self._command, *arguments])  # noqa: S606 - our own
            self._imported.take_own()
            status = worker_main.main(entrance_fd, fork_server_pid, self._forks)
        except BaseException:  # noqa: BLE001 - the process must end here, whatever happened
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    # -- deaths -----------------------------------------------------------------------------------

    def _bury_all(self) -> None:
        while (pid := self._next_dead()) is not None:
            if pid in self._workers:
                self._bury(pid)
                continue
            if self._spare is not None and self._spare.pid == pid:
                self._spare.entrance.close()
                self._spare = None
            os.waitpid(pid, 0)

    def _next_dead(self) -> int | None:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        return None if ended is None else ended.si_pid

    def _bury(self, pid: int) -> None:
        """Kills what a dead worker left, then lets go of its pid, then reports.

        The zombie keeps the pid, and with it the group's number, from being given to a stranger.
        """
        self._workers.discard(pid)
        self._let_trackers_end(but=pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        self._sweep(but=pid)
        _, status, usage = os.wait4(pid, 0)
        report = [
            pid,
            os.waitstatus_to_exitcode(status),
            round(usage.ru_utime * 1e6),
            round(usage.ru_stime * 1e6),
            usage.ru_maxrss * 1024,
        ]
        self._tell(ENDED, report)

    def _let_trackers_end(self, but: int = 0) -> None:
        """Kills the other strays, and lets resource trackers clean up after them, for a moment."""
        deadline = time.monotonic() + _TRACKER_S
        while time.monotonic() < deadline:
            strays = self._strays(but)
            trackers = {pid for pid in strays if linux.is_resource_tracker(pid)}
            if not trackers:
                return
            self._kill([pid for pid in strays if pid not in trackers])
            time.sleep(_SWEEP_PAUSE_S)

    def _strays(self, but: int) -> list[int]:
        spare = 0 if self._spare is None else self._spare.pid
        wanted = {*self._workers, *self._kept, spare, but}
        return [pid for pid in linux.children(os.getpid()) if pid not in wanted]

    def _sweep(self, but: int = 0) -> None:
        """Kills and reaps every child that is neither a worker nor the spare, until there is none.

        They are our own children, so that no pid among them can mean another process.
        """
        deadline = time.monotonic() + _SWEEP_S
        while time.monotonic() < deadline:
            strays = self._strays(but)
            if not strays:
                return
            self._kill(strays)
            time.sleep(_SWEEP_PAUSE_S)

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
