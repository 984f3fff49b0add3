"""What an import leaves behind, and a fork does not carry: judged in the fork server, by its kind.

Python threads, and those of native libraries that do not start anew in what is forked, are refused:
jobs would wait for them for ever. So is what all workers would share, such as sockets, event loops
and files that are open for writing: data would get mixed up. A file that is only read, or written
at its end, is none of these: each worker opens it once more, so that it has a place in it of its
own. What may be all right is a warning.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import mmap
import os
import re
import socket
import stat
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, Final

_WAY_OUT: Final = "in on_worker_start, or use start_method='spawn'"

_TELLS_OF_FORK: Final = re.compile(rb"(?:__register|pthread)_atfork\0")
"""In a library that wants to be told of a fork: one that does not cannot start its threads anew."""

_SURVIVES: Final = re.compile(r"openblas|libomp\b|iomp5|libarrow|tokenizers|jemalloc_bg|polars-ooc")
"""Libraries, and names of threads, that are known to go on in what is forked, or not to be missed
there: those that polars has as soon as it is imported are its allocator's, and one that cleans up.
"""

_DIES: Final = re.compile(r"polars|rayon|tokio|duckdb|gomp|onnxruntime|grpc|tensorflow")
"""Such as are known not to, though something in them (an allocator) wants to be told of a fork."""

_STARTS_FOR_OTHERS: Final = re.compile(
    r"(libc|libpthread|ld-|ld-musl|libpython|libstdc\+\+|libc\+\+)[-.\w]*so"
)

_SHARES_EVENTS: Final = ("[eventpoll]", "inotify", "[io_uring]", "[fanotify]")
_HARMLESS_DEVICES: Final = re.compile(r"/dev/(null|zero|full|u?random|tty|pts/\d+|console)$")
_STACK_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class ForkSafety:
    """What imports have left since this was made."""

    to_reopen: list[int] = field(default_factory=list[int])
    """Files that each worker opens once more; see `reopen`."""
    warnings: list[str] = field(default_factory=list[str])
    _known: dict[int, str] = field(default_factory=lambda: _descriptors())  # noqa: PLW0108 - it is defined below
    _threads: set[int] = field(default_factory=lambda: _native_threads())  # noqa: PLW0108 - as above

    def problem_of(self, module: str) -> str | None:
        """Returns why what the import of *module* left cannot be forked, or None."""
        others = (each for each in threading.enumerate() if each is not threading.main_thread())
        for thread in others:
            return (
                f"its import left the thread {thread.name!r} running, which forked workers would "
                f"not have; start it {_WAY_OUT}"
            )
        return self._problem_of_threads(module) or self._problem_of_descriptors(module)

    def _problem_of_threads(self, module: str) -> str | None:
        if not _native_threads() - self._threads:
            return None
        # Some libraries end their threads before a fork, as OpenBLAS does.
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        whose = {_whose(thread) for thread in _native_threads() - self._threads}
        self._threads |= _native_threads()
        own_name = _name_of(os.getpid())
        for library, name in sorted(whose):
            said = library or "a native library"
            if name != own_name:
                said += f" (a thread named {name!r})"
            if _SURVIVES.search(os.path.basename(library)) or _SURVIVES.search(name):  # noqa: PTH119 - a text
                continue
            if _DIES.search(f"{library} {name}") or (library and not _is_told_of_forks(library)):
                return (
                    f"its import left threads of {said} running, which forked workers would not "
                    f"have, and their jobs would wait for ever; use it {_WAY_OUT}"
                )
            self.warnings.append(
                f"the import of {module} left threads of {said} running, which forked workers do "
                f"not have: if jobs hang in it, use it {_WAY_OUT}"
            )
        return None

    def _problem_of_descriptors(self, module: str) -> str | None:
        now = _descriptors()
        left = {fd: target for fd, target in now.items() if self._known.get(fd) != target}
        self._known = now
        # An event loop has sockets too: it is named first.
        for fd, target in sorted(left.items(), key=lambda each: "anon_inode" not in each[1]):
            judged = _judged(fd, target)
            if judged.is_to_reopen and _can_reopen(fd):
                self.to_reopen.append(fd)
            elif judged.what and not judged.may_be_right:
                return f"its import left {judged.what}; {judged.cure} {_WAY_OUT}"
            elif judged.what:
                self.warnings.append(
                    f"the import of {module} left {judged.what}; if they disturb each other there, "
                    f"{judged.cure} {_WAY_OUT}"
                )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    what: str = ""
    """What is wrong with it; empty: nothing, or nothing once it is reopened."""
    may_be_right: bool = False
    is_to_reopen: bool = False
    cure: str = "open it"


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


def _can_reopen(fd: int) -> bool:
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        os.close(os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC))
    except OSError:
        return False
    return True


# -- descriptors ----------------------------------------------------------------------------------


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is wanted
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - a string is wanted
    return found


def _judged(fd: int, target: str) -> _Judged:  # noqa: PLR0911 - one for each kind
    mode = os.fstat(fd).st_mode
    access = fcntl.fcntl(fd, fcntl.F_GETFL)
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
        return _judged_file(fd, target, access)
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(fd)) as copy:
            is_datagram = copy.type == socket.SOCK_DGRAM
        what = "a socket open, which all forked workers would share"
        return _Judged(what=what, may_be_right=is_datagram)
    if stat.S_ISFIFO(mode):
        if fd == _resource_tracker():
            return _Judged()
        what = "a pipe open, which all forked workers would share"
        return _Judged(what=what, may_be_right=access & os.O_ACCMODE == os.O_WRONLY)
    if stat.S_ISCHR(mode):
        if _HARMLESS_DEVICES.match(target):
            return _Judged()
        what = f"{target} open, which all forked workers would share"
        return _Judged(what=what, may_be_right=True)
    if any(each in target for each in _SHARES_EVENTS):
        what = f"an event loop ({target}), which all forked workers would share"
        return _Judged(what=what, cure="make it")
    what = f"{target} open, which all forked workers would share"
    return _Judged(what=what, may_be_right=True)


def _judged_file(fd: int, target: str, access: int) -> _Judged:
    is_read_only = access & os.O_ACCMODE == os.O_RDONLY
    is_to_reopen = is_read_only or bool(access & os.O_APPEND)
    if not is_to_reopen and (_is_log(fd) or (_is_mapped(fd) and not _is_pythons(fd))):
        return _Judged()
    how = "" if is_read_only else " for writing"
    what = f"the file {target} open{how}, and all forked workers would share their place in it"
    return _Judged(what=what, is_to_reopen=is_to_reopen, cure="close it, or open it")


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
    wanted = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x} {about.st_ino}"
    return any(" ".join(line.split()[3:5]) == wanted for line in _maps())


def _is_pythons(fd: int) -> bool:
    """Whether a file object of Python holds it, unlike a map's copy of the descriptor."""
    import gc  # noqa: PLC0415 - it is rarely needed

    for each in gc.get_objects():
        if isinstance(each, io.FileIO):
            with contextlib.suppress(ValueError, OSError):
                if each.fileno() == fd:
                    return True
    return False


# -- threads of native libraries ------------------------------------------------------------------


def _native_threads() -> set[int]:
    python = {thread.native_id for thread in threading.enumerate()}
    return {int(name) for name in os.listdir("/proc/self/task")} - python - {os.getpid()}  # noqa: PTH208 - as above


def _whose(thread: int) -> tuple[str, str]:
    """Returns the library that a thread began in, if that can be seen, and the thread's name."""
    name = _name_of(thread)
    try:
        stack = _stack_of(thread)
    except (OSError, ValueError, IndexError):
        return "", name
    places = _code()
    # The outermost call is the last; it comes from the C library's start of a thread.
    for at in range(len(stack) - 8, -1, -8):
        address = int.from_bytes(stack[at : at + 8], sys.byteorder)
        for begin, end, library in places:
            if begin <= address < end:
                return library, name
    return "", name


def _name_of(thread: int) -> str:
    """Returns a thread's name: that of what started it, if it was given none."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/comm") as file:  # noqa: PTH123 - one read
        return file.read().strip()
    return ""


def _stack_of(thread: int) -> bytes:
    with open(f"/proc/self/task/{thread}/syscall") as file:  # noqa: PTH123 - as above
        pointer = int(file.read().split()[-2], 16)
    end = next(
        int(line.split()[0].partition("-")[2], 16)
        for line in _maps()
        if int(line.split()[0].partition("-")[0], 16)
        <= pointer
        < int(line.split()[0].partition("-")[2], 16)
    )
    with open("/proc/self/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - as above
        memory.seek(pointer & ~7)
        return memory.read(min(end - (pointer & ~7), _STACK_BYTES))


def _maps() -> list[str]:
    with open("/proc/self/maps") as file:  # noqa: PTH123 - as above
        return file.readlines()


def _code() -> list[tuple[int, int, str]]:
    """Returns where the code of libraries is, but of those that start threads for others."""
    found: list[tuple[int, int, str]] = []
    for line in _maps():
        parts = line.split(maxsplit=5)
        if len(parts) < 6 or "x" not in parts[1] or ".so" not in parts[5]:
            continue
        path = parts[5].strip()
        if _STARTS_FOR_OTHERS.match(os.path.basename(path)):  # noqa: PTH119 - a text
            continue
        begin, _, end = parts[0].partition("-")
        found.append((int(begin, 16), int(end, 16), path))
    return found


def _is_told_of_forks(library: str) -> bool:
    try:
        with (
            open(library, "rb") as file,  # noqa: PTH123 - as above
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return _TELLS_OF_FORK.search(content) is not None
    except (OSError, ValueError):
        return True
