"""``synk start`` as process 1, the first of a container, where two things are not as usual.

The kernel drops the signals for which the first process has no handler; and the first process
becomes the parent of whatever loses its own, whose zombies only it can remove. So it does nothing
else: a child does the work. It passes on the signals, reaps, and ends as the child has ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final

_PASSED_ON: Final = frozenset(
    (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
)


def stay_behind_as_pid1() -> None:
    """Returns in a child process if this is process 1, else at once."""
    if os.getpid() != 1:
        return
    # Blocked signals wait, also those that the kernel would drop otherwise.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        # A group of its own: Ctrl-C in a terminal reaches it once, through its parent.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os._exit(_status_of(child))


def _status_of(child: int) -> int:
    """Passes signals on and reaps until *child* has ended; returns its exit status."""
    while True:
        number = signal.sigwait({*_PASSED_ON, signal.SIGCHLD})
        if number == signal.SIGCHLD:
            status = _reaped(child)
            if status is not None:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


def _reaped(child: int) -> int | None:
    """Removes all zombies; returns the status of *child* if it was among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                found = ended[1]
    return found
