"""How much memory this process may really use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from synk import cgroup

_MEMINFO: Final = Path("/proc/meminfo")


def available(
    root: Path = cgroup.ROOT, own: Path = cgroup.OWN, *, meminfo: Path = _MEMINFO
) -> int | None:
    """Returns bytes: the machine's memory, or the tightest limit of a control group if less.

    What others use of it at this moment does not matter. None: nothing says how much there is.

    Args:
        root: where the control groups are mounted.
        own: what says which ones this process is in.
        meminfo: what says how much the machine has.
    """
    limits = [
        _of_machine(cgroup.read(meminfo)),
        *(_limit(folder / "memory.max") for folder in cgroup.folders(root=root, own=own)),
        *(
            _limit(folder / "memory.limit_in_bytes")
            for folder in cgroup.folders("memory", root=root, own=own)
        ),
    ]
    return min((limit for limit in limits if limit is not None), default=None)


def _of_machine(meminfo: str) -> int | None:
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        number = value.split()
        if name == "MemTotal" and number and number[0].isdigit():
            return int(number[0]) * 1024
    return None


def _limit(path: Path) -> int | None:
    """Returns the limit of a group in bytes; None for "max", nothing, and what is no number."""
    text = cgroup.read(path).strip()
    return int(text) if text.isdigit() and int(text) else None
