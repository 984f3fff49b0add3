"""The few calls of Linux that Python does not offer, and the search for tagged processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from typing import Final

TAG: Final = "SYNK_SUPERVISOR"
"""In the environment of everything that a supervisor starts: its client's id."""

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(signal_number: int) -> None:
    """Has the kernel send this process *signal_number* when the thread that made it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def tagged_processes(value: str) -> list[int]:
    """Returns the pids of the living processes that carry the tag *value*, but for this one."""
    wanted = f"{TAG}={value}".encode()
    own = str(os.getpid())
    names = os.listdir("/proc")  # noqa: PTH208 - names are all that is wanted, of many
    return [
        int(name)
        for name in names
        if name.isdigit() and name != own and wanted in _environment(name)
    ]


def kill_tagged(value: str) -> None:
    """Kills what carries the tag *value*, but for this process, until nothing new turns up."""
    for _ in range(3):
        pids = tagged_processes(value)
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _environment(pid: str) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - a thousand of them, fast
            return file.read().split(b"\0")
    except OSError:
        return []
