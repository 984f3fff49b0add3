"""What is forked inside of a worker: a child like that of any script, and no second worker.

Pools of processes, data loaders and scripts fork. A child that begins with the worker's handlers
never dies of the SIGTERM by which its parent ends it; one that keeps the worker's channel could
speak for it. So each fork here gives back what made its parent a worker, before any other code
runs in it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, NoReturn

from synk.core import wire
from synk.runtime.ipc import linux
from synk.runtime.worker import own_frames

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Container

exit_functions: Final[Callable[[], None]] = importlib.import_module("atexit")._run_exitfuncs  # noqa: SLF001 - there is no public name
"""What the interpreter calls at its end, and multiprocessing at that of its children."""

_PLAIN: Final[dict[int, Any]] = {signal.SIGINT: signal.default_int_handler}
"""What Python itself sets for a program, where that is not the default action."""


class Forks:
    """Minds the forks of this process and, since those inherit it, of the workers among them.

    There is one of it in a process, for as long as that lives.
    """

    def __init__(self) -> None:
        self._masks: dict[int, set[signal.Signals]] = {}
        """Of the threads that fork at the moment."""
        self._makes_worker = False
        self._dumps = faulthandler.is_enabled()
        self.let_go: Callable[[], None] | None = None
        """What else a fork gives back: all that a worker has for its slot."""
        os.register_at_fork(
            before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child
        )

    def fork_worker(self) -> int:
        """Forks a process that goes on as one of ours; returns what `os.fork` returns.

        Raises:
            OSError: there can be no more processes.
        """
        self._makes_worker = True
        try:
            return os.fork()
        finally:
            self._makes_worker = False

    def _before(self) -> None:
        if not self._makes_worker:
            # A signal right after the fork, which our handler would swallow, waits for the child's.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, linux.ENDING_SIGNALS)
            self._masks[threading.get_ident()] = mask  # pyright: ignore[reportArgumentType]

    def _in_parent(self) -> None:
        self._unblock()

    def _in_child(self) -> None:
        if self._makes_worker:
            return
        for number in linux.ENDING_SIGNALS:
            # One that a job has set is its children's, too.
            if linux.bears(number):
                signal.signal(number, _PLAIN.get(number, signal.SIG_DFL))
        if self.let_go is not None:
            self.let_go()
        if self._dumps:
            faulthandler.enable(file=2)
        else:
            # What enabled it here writes into the worker's status page.
            faulthandler.disable()
        self._unblock()

    def _unblock(self) -> None:
        mask = self._masks.pop(threading.get_ident(), None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def leave_to_parent(channel: socket.socket, *fds: int) -> None:
    """In a fork of a worker: closes what makes that one a worker; a job may have done so before."""
    with contextlib.suppress(OSError):
        channel.close()
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def end_as_script(error: BaseException | None, own_files: Container[str]) -> NoReturn:
    """Ends a fork that came back from its job's handler, as a script of its own would end.

    Args:
        error: what it left the handler by; None: it returned, and the work is its parent's.
        own_files: the files whose frames are ours, not the handler's.
    """
    status = wire.FORK_RETURNED if error is None else 1
    with contextlib.suppress(BaseException):
        status = _told(error, own_files, status)
    with contextlib.suppress(BaseException):
        if error is not None:
            exit_functions()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if issubclass(type(error), KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


def _told(error: BaseException | None, own_files: Container[str], status: int) -> int:
    """Says what there is to say of the end; returns the exit status."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)  # noqa: T201 - as the interpreter does it
    elif error is not None:
        trace = own_frames.traceback_of_handler(error, own_files)
        sys.excepthook(type(error), BaseException.with_traceback(error, trace), trace)
    return status
