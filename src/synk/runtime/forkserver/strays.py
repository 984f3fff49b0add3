"""What jobs have left behind when their worker dies: killed, whatever it has done to get away.

Each worker adopts its own orphans while it lives, and the fork server is the adopter of those. So a
child of this process that it does not want is what a dead worker left, and no pid among them can
mean another process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from synk.runtime.ipc import linux

if TYPE_CHECKING:
    from collections.abc import Collection

_SWEEP_S: Final = 2.0
"""How long the processes that a dead worker left may take to die of SIGKILL; one that hangs in the
kernel longer than this is left to it."""

_PAUSE_S: Final = 0.0005

_TRACKER_S: Final = 1.0
"""How long a resource tracker may take to unlink what a dead worker has left, /dev/shm's among it.
It begins when all that use it are dead, and needs some milliseconds."""


def let_trackers_end(wanted: Collection[int]) -> None:
    """Kills the other strays, and lets resource trackers clean up after them, for a moment."""
    deadline = time.monotonic() + _TRACKER_S
    while time.monotonic() < deadline:
        strays = _strays(wanted)
        trackers = {pid for pid in strays if linux.is_resource_tracker(pid)}
        if not trackers:
            return
        _kill([pid for pid in strays if pid not in trackers])
        time.sleep(_PAUSE_S)


def sweep(wanted: Collection[int]) -> None:
    """Kills and reaps every child but those that are *wanted*, until there is none."""
    deadline = time.monotonic() + _SWEEP_S
    while time.monotonic() < deadline:
        strays = _strays(wanted)
        if not strays:
            return
        _kill(strays)
        time.sleep(_PAUSE_S)


def _strays(wanted: Collection[int]) -> list[int]:
    return [pid for pid in linux.children(os.getpid()) if pid not in wanted]


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
