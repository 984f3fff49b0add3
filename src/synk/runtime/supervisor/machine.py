"""What a supervisor runs on, the real thing or a simulation's, and what it says of itself."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Final

from synk.core.ownership import OwnLease
from synk.runtime.supervisor.engine import Engine
from synk.runtime.supervisor.lease_loop import boottime
from synk.runtime.supervisor.loop_runner import LoopRunner
from synk.status import ClientStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from synk.config import EngineConfig, QueueConfig
    from synk.registry import Registry

LOOPS: Final = (
    "claim",
    "ack",
    "listen",
    "maintain",
    "report",
    "settings",
    "periodic",
    "lease",
    "lag",
)
_OF_LEASES: Final = ("maintain", "lease")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The clocks of a supervisor, and what runs its loops, its workers and its lease."""

    clock: Callable[[], float] = time.monotonic
    lease_clock: Callable[[], float] = boottime
    """Of the loops that look at leases: these hold on while the machine sleeps."""
    make_runner: Callable[..., LoopRunner] = LoopRunner
    make_engine: Callable[..., Engine] = Engine
    make_lease: Callable[[float], OwnLease] = OwnLease

    def runners(self, on_failure: Callable[[BaseException], None]) -> dict[str, LoopRunner]:
        """Returns a runner for each loop, by the clock by which that takes its steps."""
        return {
            name: self.make_runner(
                name, on_failure, clock=self.lease_clock if name in _OF_LEASES else self.clock
            )
            for name in LOOPS
        }


def own_status(
    owner: UUID, engine: EngineConfig, queues: Mapping[str, QueueConfig], registry: Registry
) -> ClientStatus:
    """Returns what a supervisor in this process says of itself."""
    return ClientStatus(
        id=owner,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=metadata.version("synk"),
        processes=engine.processes,
        queues=tuple(queues),
        kinds=tuple(registry.kinds),
    )
