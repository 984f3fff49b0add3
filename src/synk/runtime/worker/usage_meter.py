"""What a job takes: wall time, CPU time with that of its children, and the peak of its memory."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import TYPE_CHECKING, Final

from synk.core import wire

if TYPE_CHECKING:
    from synk.core.messages import Measure

_MEASURED_NS: Final = 200_000
"""Jobs shorter than this are taken to have used the CPU all the time: asking the kernel costs more
than a microsecond."""

_RESET_PEAK: Final = b"5"
"""What /proc/self/clear_refs takes to begin the peak anew, proc(5)."""


class UsageMeter:
    """Measures one job after the other in this process."""

    def __init__(self, status_page: memoryview) -> None:
        self._status_page = status_page
        self._cpu_us, self._system_us, _, self._children_peak = _usage()
        self._cheap_ns = 0
        self._peak_fd: int | None = None
        with contextlib.suppress(OSError):
            self._peak_fd = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)

    def begin(self) -> None:
        """Notes what was used before the next job, for whoever has to tell what it used."""
        self._status_page[wire.CPU_US] = self._cpu_us + self._cheap_ns // 1000
        self._status_page[wire.SYSTEM_US] = self._system_us

    def measure(self, wall_ns: int) -> Measure:
        """Returns the measures of the job that just took *wall_ns* nanoseconds."""
        wall_us = wall_ns // 1000
        if wall_ns < _MEASURED_NS:
            self._cheap_ns += wall_ns
            return (wall_us, wall_us, 0, 0)
        cpu_us, system_us, peak, children_peak = _usage()
        used_us = max(0, cpu_us - self._cpu_us - self._cheap_ns // 1000)
        used_system_us = min(used_us, max(0, system_us - self._system_us))
        if children_peak > self._children_peak:
            peak = max(peak, children_peak)
        self._cpu_us, self._system_us, self._cheap_ns = cpu_us, system_us, 0
        self._children_peak = children_peak
        self._reset_peak()
        return (wall_us, used_us, used_system_us, peak)

    def _reset_peak(self) -> None:
        if self._peak_fd is not None:
            try:
                os.write(self._peak_fd, _RESET_PEAK)
            except OSError:
                self._peak_fd = None


def _usage() -> tuple[int, int, int, int]:
    """Returns CPU and system time in microseconds, peak memory in bytes: own, and of children."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    system = own.ru_stime + children.ru_stime
    cpu = own.ru_utime + children.ru_utime + system
    return round(cpu * 1e6), round(system * 1e6), own.ru_maxrss * 1024, children.ru_maxrss * 1024
