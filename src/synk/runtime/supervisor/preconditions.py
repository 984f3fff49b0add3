"""Where a supervisor refuses to start, and with what settings."""

from __future__ import annotations

import os
import resource
import sys
from typing import TYPE_CHECKING

from synk.errors import ConfigurationError
from synk.runtime.forkserver import monkey_patches
from synk.runtime.ipc import process_role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synk.config import EngineConfig, QueueConfig


def check_place() -> None:
    """Refuses to start where a supervisor cannot be.

    Raises:
        ConfigurationError: in a worker process, while one imports the script, or not on Linux.
    """
    if process_role.role is not process_role.ProcessRole.OUTSIDE:
        raise ConfigurationError(
            "start",
            os.path.basename(sys.argv[0] or "?"),  # noqa: PTH119 - a name to show
            "was called while a worker process imports this module; put the call under "
            "`if __name__ == '__main__':`",
        )
    if (library := monkey_patches.library()) is not None:
        raise ConfigurationError(
            "start",
            library,
            "has patched this process (monkey_patch), and a supervisor needs real threads: "
            "start it where nothing is patched; inserting works in both",
        )
    if sys.platform != "linux":
        raise ConfigurationError("start", sys.platform, "worker processes need Linux")


def check_machine(queues: Mapping[str, QueueConfig], engine: EngineConfig) -> None:
    """Refuses settings that this machine cannot keep.

    Raises:
        ConfigurationError: a CPU that this process may not use, or a limit that does not exist.
    """
    allowed = os.sched_getaffinity(0)
    for name, queue in queues.items():
        if not set(queue.cpus or ()) <= allowed:
            raise ConfigurationError(
                f"queues[{name!r}].cpus", set(queue.cpus or ()), f"must be some of {allowed}"
            )
    for name in engine.rlimits:
        if not hasattr(resource, f"RLIMIT_{name}"):
            raise ConfigurationError("rlimits", name, "is no limit, such as NOFILE or AS")
