"""What an attempt held is let go of as it ends, as after a plain call.

An exception holds the frames that it went through, and they hold the job's files, locks, sockets
and memory; a frame that keeps the exception closes a circle, which Python opens some time later. By
then another job runs, which waits for the lock, or is killed for the memory.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from synk.runtime.ipc import linux

if TYPE_CHECKING:
    from collections.abc import Iterator

GROWTH_BYTES: Final = 32 << 20
"""A process that holds so much more than before is asked whether it needs it."""

_COLLECTING_SHARE: Final = 0.05
"""Of its time a process whose jobs fail one after the other spends on collecting, at most."""

_EXCEPTIONS_MAX: Final = 1000

_LAST: Final = ("last_exc", "last_type", "last_value", "last_traceback")

_OF_EXCEPTION: Final = BaseException.__dict__
_OF_GROUP: Final = BaseExceptionGroup.__dict__


class Garbage:
    """What one job after the other leaves in memory: freed, and given back to the system."""

    def __init__(self) -> None:
        self._collects_at_s = 0.0
        self._is_owed = False
        self._settled_bytes = linux.resident_bytes(os.getpid())

    def free(self, error: BaseException) -> None:
        """Empties the frames of a failed attempt, and frees what else it has left in circles."""
        for each in _related(error):
            traceback.clear_frames(_OF_EXCEPTION["__traceback__"].__get__(each))
        for name in _LAST:
            if hasattr(sys, name):
                delattr(sys, name)
        self._is_owed = True
        self.collect_if_owed()

    def collect_if_owed(self) -> None:
        """Collects what is owed, unless that was done a moment ago."""
        if self._is_owed and time.monotonic() >= self._collects_at_s:
            self._collect()

    def trim_after(self, peak_bytes: int) -> None:
        """Gives memory back to the system where a job that took much is over.

        Args:
            peak_bytes: the most that the process had meanwhile; 0 for a short job.
        """
        if peak_bytes <= self._settled_bytes + GROWTH_BYTES:
            return
        pid = os.getpid()
        if linux.resident_bytes(pid) > self._settled_bytes + GROWTH_BYTES:
            self._collect()
            linux.trim_memory()
            self._settled_bytes = max(self._settled_bytes, linux.resident_bytes(pid))

    def _collect(self) -> None:
        began_s = time.monotonic()
        gc.collect()
        ended_s = time.monotonic()
        self._collects_at_s = ended_s + (ended_s - began_s) / _COLLECTING_SHARE
        self._is_owed = False


def _related(error: BaseException) -> Iterator[BaseException]:
    """Yields an exception, its causes, contexts and members, each once.

    By what the built-in classes say of them: an exception's own attributes can be anything.
    """
    waiting: list[Any] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _EXCEPTIONS_MAX:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += (_OF_EXCEPTION[name].__get__(each) for name in ("__cause__", "__context__"))
        if issubclass(type(each), BaseExceptionGroup):
            waiting += _OF_GROUP["exceptions"].__get__(each)
