"""The few calls of Linux that Python does not offer, and questions to /proc."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import re
import signal
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

TAG: Final = "SYNK_SUPERVISOR"
"""In the environment of everything that a supervisor starts: its client's id."""

ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What others send to all processes of a service: it is the supervisor who says when a worker ends.
They are blocked while a program is exchanged for another, since until it has handlers they kill."""

PIPE_BYTES: Final = 256 * 1024
"""What a job may write before it waits for the supervisor to look."""

_F_SETPIPE_SZ: Final = 1031
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38

HIGH_DESCRIPTORS: Final = 900
"""Where a worker keeps its own: what closes "all" descriptors often stops at 256, and a new file
never gets such a number, so that no stack is ever written into a user's file."""

_PARENT: Final = 1
_USER_TICKS: Final = 11
_SYSTEM_TICKS: Final = 12
"""Fields of /proc/PID/stat after the name."""


def die_with_parent(signal_number: int) -> None:
    """Has the kernel send this process *signal_number* when the thread that made it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def close_memory() -> None:
    """Closes this process's memory and first environment to others of its user, until an exec.

    Whoever may trace any process, as root usually may, can still look; a core is not dumped.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent ends, also after setsid."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def refuse_new_privileges() -> None:
    """From now on no program that this process starts can gain rights by its setuid bit."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def bear_ending_signals() -> None:
    """Gives them handlers that do nothing, and lets them through.

    Handlers instead of SIG_IGN, which programs that jobs start would inherit.
    """
    for number in ENDING_SIGNALS:
        signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


def bears(number: int) -> bool:
    """Whether *number* has the handler that `bear_ending_signals` gave it."""
    return signal.getsignal(number) is _ignore


def _ignore(_signal: int, _frame: object) -> None:
    pass


def set_name(name: str) -> None:
    """Names this process for `ps` and `top`; the kernel keeps 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode()[:15])


def _prctl(option: int, value: int | bytes) -> None:
    libc = _libc()
    given = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if libc.prctl(option, given, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def moved_high(fd: int) -> int:
    """Returns a descriptor's copy with a high number, and closes it."""
    try:
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_DESCRIPTORS)
    except OSError:
        # The process may not have so many.
        return fd
    os.close(fd)
    return copy


def widen_pipe(fd: int) -> None:
    """Gives a pipe more room, if the user may have so much."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, _F_SETPIPE_SZ, PIPE_BYTES)


def trim_memory() -> None:
    """Has the C library give back what it keeps for later, where it is one that can."""
    with contextlib.suppress(AttributeError):
        _libc().malloc_trim(ctypes.c_size_t(0))


def line_buffer_stdio() -> None:
    """Has C's own stdout write whole lines at once, as a pipe otherwise keeps 4 KiB back."""
    libc = _libc()
    with contextlib.suppress(ValueError, AttributeError):
        stdout = ctypes.c_void_p.in_dll(libc, "stdout")
        libc.setvbuf(stdout, None, 1, ctypes.c_size_t(0))


def read(pid: int | str, name: str) -> bytes:
    """Returns what a file of a process's in /proc says; empty if the process is gone."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123 - a thousand of them, fast
            return file.read()
    except OSError:
        return b""


def children(pid: int) -> list[int]:
    """Returns the pids of a process's children, zombies among them."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:  # noqa: PTH123 - fast
            found = [int(child) for child in file.read().split()]
        if len(_listing(f"/proc/{pid}/task")) == 1:
            return found
    except OSError:
        pass
    return [child for child, parent in parents().items() if parent == pid]


def descendants(pid: int, parent_of: dict[int, int] | None = None) -> list[int]:
    """Returns the pids of all that a process and its children started and that is still there.

    Args:
        pid: the root; it is not among the answer.
        parent_of: what `parents` returned, to ask about several roots at one time.
    """
    of_parent: dict[int, list[int]] = {}
    for child, parent in (parents() if parent_of is None else parent_of).items():
        of_parent.setdefault(parent, []).append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        more = of_parent.get(waiting.pop(), [])
        found += more
        waiting += more
    return found


def parents() -> dict[int, int]:
    """Returns pid -> parent's pid for every process."""
    found: dict[int, int] = {}
    for name in _listing("/proc"):
        if name.isdigit():
            fields = _stat(name)
            if fields:
                found[int(name)] = int(fields[_PARENT])
    return found


class Mapping(NamedTuple):
    """A line of a memory map, see proc(5)."""

    begin: int
    end: int
    permissions: str
    file: tuple[str, str]
    """Its device and inode."""
    path: str


def memory_maps() -> Iterator[Mapping]:
    """Yields what this process's memory is mapped to."""
    for line in read("self", "maps").splitlines():
        span, permissions, _, device, inode, *path = os.fsdecode(line).split(maxsplit=5)
        begin, end = (int(address, 16) for address in span.split("-"))
        yield Mapping(begin, end, permissions, (device, inode), "".join(path))


def catches(pid: int, signal_number: int) -> bool:
    """Whether the process has a handler for a signal."""
    caught = re.search(rb"^SigCgt:\s*(\w+)", read(pid, "status"), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal_number - 1) & 1)


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a process has used, user and system; 0 if it is gone."""
    fields = _stat(pid)
    if len(fields) <= _SYSTEM_TICKS:
        return 0.0
    return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_A_SECOND


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process; 0 if it is gone."""
    pages = read(pid, "statm").split()
    return int(pages[1]) * _PAGE_SIZE if pages else 0


def tagged_processes(value: str) -> list[int]:
    """Returns the pids of the living processes that carry the tag *value*, but for this one."""
    wanted = f"{TAG}={value}".encode()
    own = str(os.getpid())
    return [
        int(name)
        for name in _listing("/proc")
        if name.isdigit() and name != own and wanted in _environment(name)
    ]


def kill_tagged(value: str) -> None:
    """Kills what carries the tag *value*, but for this process, until nothing new turns up."""
    wanted = f"{TAG}={value}".encode()
    for _ in range(3):
        pids = tagged_processes(value)
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(pid)
                try:
                    # Looked at again: from here on the descriptor means this very process.
                    if wanted in _environment(pid):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                finally:
                    os.close(pidfd)


def is_resource_tracker(pid: int) -> bool:
    """Whether a process is what multiprocessing, or joblib, has to unlink what others leave.

    It ends by itself, and cleans up, once all that use it are gone.
    """
    return _TRACKER.search(read(pid, "cmdline")) is not None


_TRACKER: Final = re.compile(rb"\0-c\0from [\w.]*resource_tracker import main;")
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_SIZE: Final = os.sysconf("SC_PAGE_SIZE")


def _listing(folder: str) -> list[str]:
    return os.listdir(folder)  # noqa: PTH208 - names are all that is wanted, of many


def _stat(pid: int | str) -> list[bytes]:
    return read(pid, "stat").rpartition(b")")[2].split()


def _environment(pid: int | str) -> list[bytes]:
    return read(pid, "environ").split(b"\0")
