"""How ``synk start`` ends: with which exit status, and for certain.

An exit can hang: in a telemetry subscriber, in a thread or an atexit function of the jobs' module,
in C code, in a log that nobody reads. The process must not stay then, since its successor waits for
it. Only a program of synk's own may end so; a library must not end its host.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from typing import Final

from synk.runtime.supervisor.supervisor import FLUSH_S
from synk.telemetry import SupervisorDraining, SupervisorStarted, SupervisorStopped

SLACK_S: Final = 5.0
"""What the exit may take beyond the drain and the last outcomes."""

_REPORT_S: Final = 1.0
"""What it may take to write where each thread is."""

_C_CODE_S: Final = 1.0
"""After this Python has not ended itself, since C code holds it up or it is being taken apart."""

_KERNEL_S: Final = 3.0
"""After this the thread that needs no Python has not ended it either: it cannot write."""


class ExitWatchdog:
    """Follows a supervisor to its end, and ends this process if that takes too long."""

    def __init__(self) -> None:
        self.status = os.EX_TEMPFAIL
        """The exit status: 75 (EX_TEMPFAIL) if outcomes could not be stored, so jobs run again."""
        self.has_stopped = False
        """Whether the supervisor, the last of them, is over."""
        self._deadline = float("inf")
        self._timers: list[threading.Timer] = []
        self._reported = threading.Event()

    def follow(self, fact: object) -> None:
        """Takes note of a fact."""
        match fact:
            case SupervisorStarted():
                # Perhaps not the first: another one follows where one has lost its lease.
                self.has_stopped = False
                self._forget()
            case SupervisorDraining():
                self._end_in(fact.seconds + FLUSH_S + SLACK_S)
            case SupervisorStopped():
                self.has_stopped = True
                self.status = os.EX_TEMPFAIL if fact.unacknowledged else 0
                self._end_in(FLUSH_S + SLACK_S)
            case _:
                pass

    def _forget(self) -> None:
        self._deadline = float("inf")
        if self._timers:
            self._cancel_timers()
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _end_in(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        if deadline >= self._deadline:
            return
        self._deadline = deadline
        self._cancel_timers()
        # Two, since nobody may read what is written; and now, since an interpreter that is about
        # to end starts no thread any more.
        for act in (self._report, self._end):
            timer = threading.Timer(seconds, act)
            timer.daemon = True
            timer.start()
            self._timers.append(timer)
        with contextlib.suppress(AttributeError, OSError, RuntimeError):
            # A thread that needs no Python. Without a standard error it has nowhere to write.
            faulthandler.dump_traceback_later(seconds + _C_CODE_S, exit=True, file=_stderr())
        # The kernel needs nothing at all: SIGALRM ends the process where that thread cannot write.
        signal.setitimer(signal.ITIMER_REAL, seconds + _KERNEL_S)

    def _end(self) -> None:
        self._reported.wait(_REPORT_S)
        os._exit(self.status)

    def _report(self) -> None:
        problem = "the exit hangs, and is ended now with status %d; where each thread is follows"
        logging.getLogger("synk").error(problem, self.status)
        with contextlib.suppress(AttributeError, OSError, RuntimeError):
            faulthandler.dump_traceback(file=_stderr())
        self._reported.set()


def _stderr() -> int:
    """Returns the descriptor of the standard error.

    Given the file, faulthandler flushes it first: that waits for whoever writes to a log that
    nobody reads, and the drain waits with it.

    Raises:
        AttributeError: there is none.
    """
    return sys.stderr.fileno()
