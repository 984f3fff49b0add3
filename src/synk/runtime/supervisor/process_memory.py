"""What memory a process has of its own: what would be free again if it and its like were gone.

That is anonymous memory that nobody else has, in RAM or in swap, and shared memory without a name
(``mmap(-1)``, memfd, ``RawArray``) that nobody else has mapped. Not counted is what the kernel can
drop or what others use too: files that are mapped, also where they are written to or lie in
/dev/shm, and what a fork has inherited and not written to, as the modules of a worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from synk.runtime.ipc import linux

_COUNTED: Final = frozenset((b"RssAnon:", b"RssShmem:", b"VmSwap:"))
_FIELDS: Final = frozenset(
    (b"Pss:", b"Private_Clean:", b"Private_Dirty:", b"Anonymous:", b"LazyFree:", b"SwapPss:")
)
_NAMELESS: Final = (b"/dev/zero", b"/memfd:", b"/SYSV", b"/dev/shm/")
_DELETED: Final = b" (deleted)"


@dataclass(frozen=True, slots=True)
class Own:
    """A process's memory, in bytes."""

    alone: int = 0
    """What nobody else has."""
    shares: int = 0
    """Its shares of what a fork has left it and others: a page that four have counts a quarter."""


def most_bytes(pid: int) -> int:
    """Returns what a process has of its own at the most: cheap, and 0 if it is gone."""
    parts = (line.split() for line in linux.read(pid, "status").splitlines())
    return 1024 * sum(int(part[1]) for part in parts if part and part[0] in _COUNTED)


def own(pid: int) -> Own:
    """Returns what a process has of its own; it costs some milliseconds for each gigabyte."""
    alone = shares = 0
    path, fields = b"", dict[bytes, int]()
    # Each mapping is a line with its path, and then lines with what is in it. See proc(5).
    for line in (*linux.read(pid, "smaps").splitlines(), b"0-0"):
        parts = line.split(None, 5)
        if parts[0] in _FIELDS:
            fields[parts[0]] = int(parts[1])
        elif not parts[0].endswith(b":"):
            if fields:
                mapping = _of_mapping(path, fields)
                alone, shares = alone + mapping.alone, shares + mapping.shares
            path, fields = parts[5] if len(parts) > 5 else b"", {}
    return Own(alone * 1024, shares * 1024)


def _of_mapping(path: bytes, fields: dict[bytes, int]) -> Own:
    """Returns what a mapping has, in kilobytes."""
    private = fields.get(b"Private_Clean:", 0) + fields.get(b"Private_Dirty:", 0)
    swapped = fields.get(b"SwapPss:", 0)
    if path.startswith(b"/") and not (path.startswith(_NAMELESS) and path.endswith(_DELETED)):
        # Of a file only what was written to and is the process's alone, not the file's.
        written = min(fields.get(b"Anonymous:", 0), fields.get(b"Private_Dirty:", 0))
        return Own(written + swapped, 0)
    given_back = min(private, fields.get(b"LazyFree:", 0))
    return Own(private - given_back + swapped, max(0, fields.get(b"Pss:", 0) - private))
