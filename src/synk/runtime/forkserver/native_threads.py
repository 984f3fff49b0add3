"""Threads that native libraries have started in this process, and whose they are."""

from __future__ import annotations

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
    code = _code()
    # The outermost call is the last; it comes from the C library's start of a thread.
    for at in range(len(stack) - 8, -1, -8):
        address = int.from_bytes(stack[at : at + 8], sys.byteorder)
        for each in code:
            if each.begin <= address < each.end:
                return each.path, name
    return "", name


def name_of(thread: int) -> str:
    """Returns a thread's name: that of what started it, if it was given none."""
    return linux.read("self", f"task/{thread}/comm").decode(errors="replace").strip()


def _stack_of(thread: int) -> bytes:
    pointer = int(linux.read("self", f"task/{thread}/syscall").split()[-2], 16)
    end = next(each.end for each in linux.memory_maps() if each.begin <= pointer < each.end)
    with open("/proc/self/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - a part of it
        memory.seek(pointer & ~7)
        return memory.read(min(end - (pointer & ~7), _STACK_BYTES))


def _code() -> list[linux.Mapping]:
    """Returns where the code of libraries is, but of those that start threads for others."""
    return [
        each
        for each in linux.memory_maps()
        if "x" in each.permissions
        and ".so" in each.path
        and not _STARTS_FOR_OTHERS.match(os.path.basename(each.path))  # noqa: PTH119 - a text
    ]


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
