"""Whether gevent or eventlet has taken the place of threads, sockets and the like here."""

from __future__ import annotations

import sys
from typing import Any, Final

_CHECKS: Final = (
    ("gevent.monkey", "is_module_patched"),
    ("eventlet.patcher", "is_monkey_patched"),
)
_NEEDED: Final = ("thread", "threading", "socket", "select", "time", "os", "signal", "subprocess")


def library() -> str | None:
    """Returns the name of the library that has patched what our processes need; None: no one."""
    for name, check in _CHECKS:
        is_patched: Any = getattr(sys.modules.get(name), check, None)
        if is_patched is not None and any(map(is_patched, _NEEDED)):
            return name.partition(".")[0]
    return None


def problem() -> str | None:
    """Returns why a process that forks workers cannot go on, after an import; None: it can."""
    name = library()
    if name is None:
        return None
    return (
        f"its import has patched the standard library ({name}'s monkey patching), and the process "
        "that makes the workers needs real sockets and signals: patch in on_worker_start, or use "
        "start_method='spawn'"
    )
