"""A disk of a few megabytes for a server of the tests to fill."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.supervising import DEADLINE_S
from synk.storage.embedded_host import server_user

_NEW_MOUNTS = 0x00020000
_PRIVATE_ALL = 0x00040000 | 0x00004000


def with_small_disk(folder: Path, size: str, call: Callable[[], object]) -> None:
    """Calls *call*; to the processes that it starts *folder* is a disk of its own.

    Nobody else sees that disk, and nothing of it is left when they end.
    """
    problems: list[OSError] = []

    def run() -> None:
        try:
            _mount(folder, size)
        except OSError as error:
            problems.append(error)
        else:
            call()

    # Only this thread, and what it starts, has these mounts.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(4 * DEADLINE_S)
    if problems:
        pytest.skip(f"no file system can be mounted here: {problems[0]}")


def _mount(folder: Path, size: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    user = server_user()
    options = f"size={size},uid={user.uid},gid={user.gid},mode=700"
    for done in (
        lambda: libc.unshare(_NEW_MOUNTS),
        lambda: libc.mount(b"none", b"/", None, _PRIVATE_ALL, None),
        lambda: libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, options.encode()),
    ):
        if done() != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
