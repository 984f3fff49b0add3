"""What the jobs do, the same for every peer."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from peers.times import Times

TIMES_VARIABLE = "SYNK_BENCH_TIMES"
"""The file in which the processes of a run note their times."""


class _Marks:
    times: Times | None = None
    began = False


def times() -> Times:
    if _Marks.times is None:
        _Marks.times = Times(Path(os.environ[TIMES_VARIABLE]))
    return _Marks.times


def noop() -> None:
    """Nothing, but that the first one of each process says that the run has begun."""
    if not _Marks.began:
        _Marks.began = True
        times().begin()


def counted() -> None:
    """Nothing, and counted, for queues that cannot say how many jobs are left."""
    times().begin()
    times().end()


def burn(ms: float) -> None:
    """Computes until this thread has used *ms* of CPU, so that a slower machine works less.

    That is one amount of work for all interpreters, and what other processes take does not count.
    """
    times().begin()
    spin(ms)
    times().end()


def spin(ms: float) -> None:
    over = time.thread_time_ns() + int(ms * 1e6)
    number = 0
    while time.thread_time_ns() < over:
        for _ in range(100):
            number += 1


def pause(ms: float) -> None:
    """Waits, as for a network or a disk."""
    times().begin()
    time.sleep(ms / 1e3)
    times().end()


async def pause_awaited(ms: float) -> None:
    """The same in an event loop, for queues that run jobs in one."""
    times().begin()
    await asyncio.sleep(ms / 1e3)
    times().end()


def stamp(number: int) -> None:
    times().stamp(number)
