"""Where this process is among the kernel's control groups, version 2 and version 1."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")


def folders(controller: str = "", *, root: Path = ROOT, own: Path = OWN) -> Iterator[Path]:
    """Yields the folders of this process's group and of all above it, innermost first.

    In a container the file system often begins at the container's own group while *own* names it
    from the host's root: what is not there is left out, and the root always comes last.

    Args:
        controller: of version 1, such as ``cpu``; empty: version 2.
        root: where the control groups are mounted.
        own: what says which ones this process is in; see cgroups(7).
    """
    top = root / controller
    folder = top / _path(controller, read(own))
    while folder != top and top in folder.parents:
        if folder.is_dir():
            yield folder
        folder = folder.parent
    yield top


def _path(controller: str, text: str) -> str:
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(",") if controller else number == "0":
            return path.strip("/")
    return ""


def read(path: Path) -> str:
    """Returns what a small file says; empty if it cannot be read."""
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
