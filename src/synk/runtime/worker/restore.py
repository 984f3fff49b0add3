"""What a job may have changed in its worker process: put back, or the process is replaced.

Left as a job leaves it is what Python code keeps for itself: the environment, `sys.path`, what
modules hold. A library that a job is the first to import sets such things once, for all jobs that
follow; to take them back would break those. ``max_jobs=1`` gives each job a process of its own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import locale
import os
import resource
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from synk.runtime.ipc import linux
from synk.runtime.worker.stack import STACK_SIGNAL, end_with_stack
from synk.runtime.worker.thread_limits import ThreadLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

THREADS_MAX: Final = 64
DESCRIPTORS_MAX: Final = 256
CHILDREN_MAX: Final = 16
"""More than a fresh process has of these, and the worker is replaced: jobs leak them."""

_LEAKS_EVERY_S: Final = 0.25
"""Counting takes a hundred microseconds."""

_LIMITS: Final = tuple(
    getattr(resource, f"RLIMIT_{name}")
    for name in ("AS", "CORE", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK")
)


_handler_of: Final[Callable[[int], Any]] = importlib.import_module("_signal").getsignal
"""What `signal.getsignal` returns before it makes members of an enum of it, which takes ten times
as long: sixty are asked for after each job."""


class ProcessState:
    """The state of a worker between two jobs, as it was before the first."""

    def __init__(self, stack_fd: int) -> None:
        self._stack_fd = stack_fd
        self._umask = os.umask(0)
        os.umask(self._umask)
        # By descriptor, too: a folder that is removed, meanwhile or before, has no name.
        self._folder_fd = linux.moved_high(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        self._folder = _folder_name()
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._handlers = [
            (int(number), handler)
            for number in signal.valid_signals()
            if (handler := _handler_of(number)) is not None
        ]
        self._locale = locale.setlocale(locale.LC_ALL)
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        decimal: Any = sys.modules.get("decimal")
        self._decimal: Any = None if decimal is None else decimal.getcontext().copy()
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)
        self._cpus = os.sched_getaffinity(0)
        self._limits = [(limit, resource.getrlimit(limit)) for limit in _LIMITS]
        self._thread_limits = ThreadLimits()
        self.is_moved = False
        """Whether it has another nice value, or runs on other CPUs, than it began with."""
        self._leaks_due = 0.0
        self._descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
        self._threads = threading.active_count()
        end_with_stack(stack_fd)

    def move(self, nice: int, cpus: tuple[int, ...], *, threads: int = 0) -> None:
        """Makes this process as nice as a job's queue says, and moves it to the job's CPUs.

        Args:
            nice: what is added to its nice value.
            cpus: where it is to run; empty: anywhere.
            threads: how many BLAS and OpenMP are to use; 0: as many as they do.
        """
        if nice:
            self.is_moved = True
            os.setpriority(os.PRIO_PROCESS, 0, min(19, self._nice + nice))
        if cpus:
            self.is_moved = True
            _run_on(cpus)
        if threads:
            self._thread_limits.set(threads)

    def _move_back(self) -> None:
        # Without privileges a process cannot make itself more important again: it is replaced.
        if os.getpriority(os.PRIO_PROCESS, 0) != self._nice:
            os.setpriority(os.PRIO_PROCESS, 0, self._nice)
        if os.sched_getaffinity(0) != self._cpus:
            os.sched_setaffinity(0, self._cpus)
        if self.is_moved:
            _run_on(self._cpus)
            self._thread_limits.restore(len(self._cpus))
        self.is_moved = False

    def _restore_limits(self) -> None:
        for limit, values in self._limits:
            if resource.getrlimit(limit) != values:
                resource.setrlimit(limit, values)

    def restore(self) -> str | None:
        """Puts back what the last job changed; returns why it cannot, if so."""
        try:
            self._move_back()
            self._restore_limits()
            os.umask(self._umask)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._restore_folder()
            self._restore_handlers()
            for timer in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
                if signal.getitimer(timer) != (0.0, 0.0):
                    signal.setitimer(timer, 0.0)
            if locale.setlocale(locale.LC_ALL) != self._locale:
                locale.setlocale(locale.LC_ALL, self._locale)
            self._restore_decimal()
            # What was to come later would come in the next job, and may end its process.
            faulthandler.cancel_dump_traceback_later()
            faulthandler.enable(file=self._stack_fd)
            signal.set_wakeup_fd(-1)
            sys.stdin, sys.stdout, sys.stderr = self._streams
        except (OSError, ValueError, locale.Error) as error:
            return f"what a job changed in its process cannot be put back: {error!r}"
        return self._leak()

    def _restore_folder(self) -> None:
        name = _folder_name()
        if name is not None and name == self._folder:
            return
        try:
            os.fchdir(self._folder_fd)
        except OSError:
            # Of a volume that is gone nothing can be asked: only the kernel's name of it is left.
            if _target("cwd") != _target(f"fd/{self._folder_fd}"):
                raise

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers:
            if _handler_of(number) != handler:
                signal.signal(number, handler)
                if number == STACK_SIGNAL:
                    end_with_stack(self._stack_fd)

    def _restore_decimal(self) -> None:
        decimal = sys.modules.get("decimal")
        if decimal is None:
            return
        if self._decimal is None:
            # Loaded since: what a fresh thread would have.
            self._decimal = decimal.DefaultContext.copy()
        decimal.setcontext(self._decimal.copy())

    def _leak(self) -> str | None:
        now = time.monotonic()
        if now < self._leaks_due:
            return None
        self._leaks_due = now + _LEAKS_EVERY_S
        threads = threading.active_count() - self._threads
        if threads > THREADS_MAX:
            return f"jobs have left {threads} threads running"
        descriptors = len(os.listdir("/proc/self/fd")) - self._descriptors  # noqa: PTH208 - a count
        if descriptors > DESCRIPTORS_MAX:
            return f"jobs have left {descriptors} descriptors open"
        if has_children() and (children := len(linux.children(os.getpid()))) > CHILDREN_MAX:
            return f"jobs have left {children} processes"
        return None


def _run_on(cpus: Iterable[int]) -> None:
    """Moves all threads of this process: a BLAS has some that were there before."""
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - numbers
        with contextlib.suppress(OSError):
            # A CPU, or the thread, is gone since: no reason to fail the job.
            os.sched_setaffinity(int(thread), cpus)


def _folder_name() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - asked after every job
    except OSError:
        return None


def _target(name: str) -> str:
    return os.readlink(f"/proc/self/{name}")  # noqa: PTH115 - a string is wanted


def has_children() -> bool:
    """Whether this process has children, running or not; asks without touching them."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
