"""What a fork would share by its descriptors, and files that are opened once more instead."""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import os
import re
import socket
import stat
import sys
from dataclasses import dataclass
from typing import Any, Final

from synk.runtime.ipc import linux

_SHARES_EVENTS: Final = ("[eventpoll]", "inotify", "[io_uring]", "[fanotify]")
_HARMLESS_DEVICES: Final = re.compile(r"/dev/(null|zero|full|u?random|tty|pts/\d+|console)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is to be thought of a descriptor that forks would share."""

    what: str = ""
    """What is wrong with it; empty: nothing, or nothing once it is reopened."""
    may_be_right: bool = False
    is_to_reopen: bool = False
    cure: str = "open it"


def opened() -> dict[int, str]:
    """Returns descriptor -> what it leads to, for all that this process has open."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is wanted
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - a string is wanted
    return found


def judged(fd: int, target: str) -> Judged:
    """Returns what is to be thought of a descriptor that leads to *target*, in a fork."""
    mode = os.fstat(fd).st_mode
    access = fcntl.fcntl(fd, fcntl.F_GETFL)
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
        return _judged_file(fd, target, access)
    if fd == _resource_tracker() or _HARMLESS_DEVICES.match(target):
        return Judged()
    if target.startswith("anon_inode:") and any(each in target for each in _SHARES_EVENTS):
        what = f"an event loop ({target}), which all forked workers would share"
        return Judged(what=what, cure="make it")
    what, may_be_right = target, True
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(fd)) as copy:
            what, may_be_right = "a socket", copy.type == socket.SOCK_DGRAM
    elif stat.S_ISFIFO(mode):
        what, may_be_right = "a pipe", access & os.O_ACCMODE == os.O_WRONLY
    what += " open, which all forked workers would share"
    return Judged(what=what, may_be_right=may_be_right)


def _judged_file(fd: int, target: str, access: int) -> Judged:
    is_read_only = access & os.O_ACCMODE == os.O_RDONLY
    is_to_reopen = is_read_only or bool(access & os.O_APPEND)
    if not is_to_reopen and (_is_log(fd) or (_is_mapped(fd) and not _is_pythons(fd))):
        return Judged()
    how = "" if is_read_only else " for writing"
    what = f"the file {target} open{how}, and all forked workers would share their place in it"
    return Judged(what=what, is_to_reopen=is_to_reopen, cure="close it, or open it")


def _resource_tracker() -> int | None:
    tracker: Any = sys.modules.get("multiprocessing.resource_tracker")
    return getattr(getattr(tracker, "_resource_tracker", None), "_fd", None)


def _is_log(fd: int) -> bool:
    """Whether a handler of `logging` writes to it: whole lines, one after the other."""
    known: Any = vars(logging)["_handlerList"]
    for reference in known:
        stream: Any = getattr(reference(), "stream", None)
        with contextlib.suppress(Exception):
            if stream.fileno() == fd:
                return True
    return False


def _is_mapped(fd: int) -> bool:
    """Whether its file is mapped into memory, so that nobody may have a place in it."""
    about = os.fstat(fd)
    device = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}"
    return any(each.file == (device, str(about.st_ino)) for each in linux.memory_maps())


def _is_pythons(fd: int) -> bool:
    """Whether a file object of Python holds it, unlike a map's copy of the descriptor."""
    import gc  # noqa: PLC0415 - it is rarely needed

    for each in gc.get_objects():
        if isinstance(each, io.FileIO):
            with contextlib.suppress(ValueError, OSError):
                if each.fileno() == fd:
                    return True
    return False


def reopen(fds: list[int]) -> None:
    """Gives this process places of its own in files that it has inherited."""
    for fd in fds:
        with contextlib.suppress(OSError):
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            again = os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                os.lseek(again, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
            os.dup2(again, fd, inheritable=os.get_inheritable(fd))
            os.close(again)


def can_reopen(fd: int) -> bool:
    """Whether a file that a fork has inherited can be opened once more."""
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        os.close(os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC))
    except OSError:
        return False
    return True
