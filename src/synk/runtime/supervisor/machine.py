"""What a supervisor runs on: the real thing, or a simulation's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synk.core.ownership import OwnLease
from synk.runtime.supervisor.engine import Engine
from synk.runtime.supervisor.lease_loop import boottime
from synk.runtime.supervisor.loop_runner import LoopRunner

if TYPE_CHECKING:
    from collections.abc import Callable

LOOPS: Final = ("claim", "ack", "listen", "maintain", "report", "settings", "lease", "lag")
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
