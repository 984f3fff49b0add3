"""The fork server: a process for each slot that needs one, and a report of each that ends.

It keeps one process more than was asked for, the spare, which has loaded the handlers and waits for
a slot. A request is answered with it at once, and the next spare is made when things are quiet
again. So a slot whose job was killed waits neither for a fork nor for the page faults of a fresh
copy, which together take longer than the kill.

It is the parent of all workers and the adopter of whatever they leave behind, so three things are
exact that a supervisor could not know by itself: how a worker ended and what it used (wait4), that
no pid is taken for another (a zombie keeps its number until all its kin are killed), and that
nothing which a job started outlives its worker, also what called setsid.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from synk.runtime.forkserver import strays
from synk.runtime.ipc import linux, packets
from synk.runtime.worker import main as worker_main

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.runtime.forkserver.imports import Imported
    from synk.runtime.worker.forks import Forks

IMPORTED: Final = b"I"
STARTED: Final = b"S"
ENDED: Final = b"E"
"""The first byte of what the fork server says: imports are done (or not), and what of them may be
trouble; a worker began; one ended."""

SPARE_PAUSE_S: Final = 0.02
"""After so long without anything to do the next spare is made: not at once, since the last one is
about to begin its first job, and needs the CPU more."""


def _on_child(_signal: int, _frame: object) -> None:
    """There must be a handler for `set_wakeup_fd` to write."""


@dataclass(frozen=True, slots=True)
class Unassigned:
    """A process that waits for a slot."""

    pid: int
    entrance: socket.socket
    """The other end is the process's."""

    def assign(self, slot: int, fds: list[int]) -> bool:
        """Makes it the slot's worker, and lets go of it; returns False if it is dead."""
        with self.entrance, contextlib.suppress(ConnectionError):
            packets.send_with(self.entrance, str(slot).encode(), fds)
            return True
        return False


class ForkServer:
    """Has a worker for each request, and reaps each that ends.

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
        """The pids of those that have a slot, until they are reaped."""
        self._spare: Unassigned | None = None
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
            self._reap_all()

    def supervisor_died(self, _signal: int, _frame: object) -> None:
        """The handler of the signal that the kernel sends when the supervisor is gone."""
        self._end()

    def _end(self) -> NoReturn:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        strays.let_trackers_end(wanted=())
        strays.sweep(wanted=())
        os._exit(0)

    # -- making workers ---------------------------------------------------------------------------

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
        if chosen is None or not chosen.assign(slot, fds):
            chosen = self._fork(fds)
            # If it is dead already, the supervisor hears of that as of any other death.
            chosen.assign(slot, fds)
        self._workers.add(chosen.pid)
        return chosen.pid

    def _make_spare(self) -> None:
        self._wants_spare = False
        # If there can be no more processes now, it is tried again after the next request.
        with contextlib.suppress(OSError):
            self._spare = self._fork()

    def _fork(self, foreign_fds: Sequence[int] = ()) -> Unassigned:
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
        return Unassigned(pid, entrance)

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

    # -- reaping ----------------------------------------------------------------------------------

    def _reap_all(self) -> None:
        while (pid := self._next_dead()) is not None:
            if pid in self._workers:
                self._reap(pid)
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

    def _reap(self, pid: int) -> None:
        """Kills what a dead worker left, then lets go of its pid, then reports.

        The zombie keeps the pid, and with it the group's number, from being given to a stranger.
        """
        self._workers.discard(pid)
        wanted = self._wanted(pid)
        strays.let_trackers_end(wanted)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        strays.sweep(wanted)
        _, status, usage = os.wait4(pid, 0)
        report = [
            pid,
            os.waitstatus_to_exitcode(status),
            round(usage.ru_utime * 1e6),
            round(usage.ru_stime * 1e6),
            usage.ru_maxrss * 1024,
        ]
        self._tell(ENDED, report)

    def _wanted(self, dead: int) -> set[int]:
        """Returns the pids of the children that are no strays: the dead one stays a zombie."""
        spare = 0 if self._spare is None else self._spare.pid
        return {*self._workers, *self._kept, spare, dead}
