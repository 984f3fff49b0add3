"""Threads that native libraries have started in this process, and whose they are."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import sys
import threading
from typing import Final

from synk.runtime.ipc import linux

_TELLS_OF_FORK: Final = re.compile(rb"(?:__register|pthread)_atfork\0")
"""In a library that wants to be told of a fork: one that does not cannot start its threads anew."""

_STARTS_FOR_OTHERS: Final = re.compile(
    r"(libc|libpthread|ld-|ld-musl|libpython|libstdc\+\+|libc\+\+)[-.\w]*so"
)

_STACK_BYTES: Final = 64 * 1024


def native() -> set[int]:
    """Returns the ids of this process's threads that are not Python's."""
    python = {thread.native_id for thread in threading.enumerate()}
    return {int(name) for name in os.listdir("/proc/self/task")} - python - {os.getpid()}  # noqa: PTH208 - as above


def whose(thread: int) -> tuple[str, str]:
    """Returns the library that a thread began in, if that can be seen, and the thread's name."""
    name = name_of(thread)
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


def name_of(thread: int) -> str:
    """Returns a thread's name: that of what started it, if it was given none."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/comm") as file:  # noqa: PTH123 - one read
        return file.read().strip()
    return ""


def _stack_of(thread: int) -> bytes:
    with open(f"/proc/self/task/{thread}/syscall") as file:  # noqa: PTH123 - as above
        pointer = int(file.read().split()[-2], 16)
    end = next(
        int(line.split()[0].partition("-")[2], 16)
        for line in linux.memory_maps()
        if int(line.split()[0].partition("-")[0], 16)
        <= pointer
        < int(line.split()[0].partition("-")[2], 16)
    )
    with open("/proc/self/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - as above
        memory.seek(pointer & ~7)
        return memory.read(min(end - (pointer & ~7), _STACK_BYTES))


def _code() -> list[tuple[int, int, str]]:
    """Returns where the code of libraries is, but of those that start threads for others."""
    found: list[tuple[int, int, str]] = []
    for line in linux.memory_maps():
        parts = line.split(maxsplit=5)
        if len(parts) < 6 or "x" not in parts[1] or ".so" not in parts[5]:
            continue
        path = parts[5].strip()
        if _STARTS_FOR_OTHERS.match(os.path.basename(path)):  # noqa: PTH119 - a text
            continue
        begin, _, end = parts[0].partition("-")
        found.append((int(begin, 16), int(end, 16), path))
    return found


def is_told_of_forks(library: str) -> bool:
    """Whether a library wants to be told of forks, as far as that can be seen."""
    try:
        with (
            open(library, "rb") as file,  # noqa: PTH123 - as above
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return _TELLS_OF_FORK.search(content) is not None
    except (OSError, ValueError):
        return True
