"""How many tasks a second go through the pool of processes alone, without a database.

    python bench/pool.py [--full] [--tasks N] [--rounds N] [--processes N] [--json FILE]

No-op tasks, one by one, from the first one given to the last result. synk's engine is driven with
jobs as a supervisor drives it, each with its own timeout, start, CPU time and fence. The others
are Python's process pools, each used the fastest way in which a task may have a result, and a
timeout where the pool knows any, of its own. The floor is batches of 256 numbers over private
sockets, and as many calls of a function. The pools of others are measured if they are installed:

    pip install -e '.[bench]'
"""

from __future__ import annotations

import concurrent.futures
import functools
import importlib
import importlib.util
import json
import multiprocessing
import os
import selectors
import socket
import threading
import time
from array import array
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import jobs
import synk
from figures import FLOOR, SYNK, Results, interleaved
from machine import CPUS
from options import Size, parse, parser_of
from showing import publish
from synk.claim import ClaimedJob
from synk.config import EngineConfig
from synk.core.claim_schedule import CLAIM_JOBS
from synk.core.limits import QueueLimits
from synk.core.messages import Claimed, DrainRequested, Settle
from synk.core.pool import Pool
from synk.registry import Registry
from synk.runtime.supervisor.engine import Engine
from synk.telemetry import Telemetry

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Generator, Mapping

SIZES = {
    "tasks": Size(10_000, 200_000, "tasks for each measurement"),
    "rounds": Size(3, 7, "measurements of each"),
    "processes": Size(CPUS, CPUS, "worker processes"),
}
QUANTITY = "no-op tasks/s"
TARGETS = {QUANTITY: 150_000}
TIMEOUT_S = 60.0
PATIENCE_S = 300.0


def noop(_number: int = 0) -> None:
    pass


def main() -> None:
    options = parse(parser_of(__doc__), SIZES)
    results = Results()
    pools, missing = available()
    results.facts["versions"] = versions(pools)
    interleaved(
        {name: measured(pool, options) for name, pool in pools.items()}, options.rounds, results
    )
    notes = [f"without {name}: not installed" for name in missing]
    title = f"{options.tasks:,} tasks through {options.processes} processes"
    publish(options, "pool", title, results, TARGETS, notes)


def measured(
    pool: Callable[[int, int], float], options: argparse.Namespace
) -> Callable[[], Mapping[str, float]]:
    return lambda: {QUANTITY: options.tasks / pool(options.tasks, options.processes)}


def available() -> tuple[dict[str, Callable[[int, int], float]], list[str]]:
    missing = [name for name in OTHERS if importlib.util.find_spec(name) is None]
    others = {name: pool for name, pool in OTHERS.items() if name not in missing}
    return {
        SYNK: through_synk,
        FLOOR: through_pipes,
        **others,
        "ProcessPoolExecutor (no timeouts)": through_executor,
        "multiprocessing.Pool (no timeouts)": through_multiprocessing,
    }, missing


def versions(pools: Mapping[str, object]) -> dict[str, str]:
    return {name: metadata.version(name) for name in OTHERS if name in pools}


# -- synk -----------------------------------------------------------------------------------------


def through_synk(tasks: int, processes: int) -> float:
    """Seconds from the first task to the last result."""
    seen = Seen()
    with engine_of(processes, seen) as engine:
        post(engine, 0, processes * 4)
        seen.wait(processes * 4)
        began = time.perf_counter()
        post(engine, processes * 4, tasks)
        seen.wait(processes * 4 + tasks)
        return time.perf_counter() - began


class Seen:
    """Counts what is over."""

    def __init__(self) -> None:
        self._count = 0
        self._wanted = 0
        self._done = threading.Event()

    def __call__(self, settled: Settle) -> None:
        if settled.ended:
            raise SystemExit(f"a task has failed: {settled.ended[0]}")
        self._count += len(settled.successes)
        if self._count >= self._wanted:
            self._done.set()

    def wait(self, count: int) -> None:
        self._done.clear()
        self._wanted = count
        if self._count < count and not self._done.wait(PATIENCE_S):
            raise SystemExit(f"waited {PATIENCE_S:g} s for {count - self._count} tasks")


@contextmanager
def engine_of(processes: int, settle: Callable[[Settle], None]) -> Generator[Engine]:
    limits = QueueLimits(max_workers=processes, timeout_s=TIMEOUT_S)
    engine = Engine(
        Pool(EngineConfig(processes=processes), {"default": limits}),
        EngineConfig(processes=processes),
        Registry([jobs.noop]),
        {"default": synk.QueueConfig()},
        client_id=f"bench-pool-{os.getpid()}",
        settle=settle,
        on_change=lambda: None,
        facts=Telemetry(),
    )
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        yield engine
    finally:
        engine.post(DrainRequested(time.monotonic()))
        thread.join()


def post(engine: Engine, first: int, count: int) -> None:
    """Gives the engine *count* jobs, in batches as claims bring them."""
    now = datetime.now(UTC).timestamp()
    for start in range(first, first + count, CLAIM_JOBS):
        numbers = range(start, min(start + CLAIM_JOBS, first + count))
        engine.post(Claimed([job(number + 1, now) for number in numbers]))


def job(number: int, now: float) -> ClaimedJob:
    return ClaimedJob(
        id=number,
        attempt=1,
        kind="noop",
        priority=3,
        scheduled_at=now,
        max_attempts=1,
        uncounted=0,
        name="noop",
        created_at=now,
        attempted_at=now,
        args=json.dumps({"n": number}),
        history=None,
        claim_seq=1,
    )


# -- the floor ------------------------------------------------------------------------------------

BATCH = 256
UNDER_WAY = 2


def through_pipes(tasks: int, processes: int) -> float:
    """Batches of numbers through a private pair of sockets for each process, and back."""
    ends = [forked() for _ in range(processes)]
    left, under_way = tasks, 0
    began = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for end in ends:
            selector.register(end, selectors.EVENT_READ)
        waiting = [end for end in ends for _ in range(UNDER_WAY)]
        while left or under_way:
            while waiting and left:
                count = min(BATCH, left)
                waiting.pop().send(array("q", range(left - count, left)).tobytes())
                left, under_way = left - count, under_way + 1
            for key, _ in selector.select():
                end = ends[ends.index(key.fileobj)]  # pyright: ignore[reportArgumentType]
                array("q").frombytes(end.recv(8 * BATCH))
                waiting.append(end)
                under_way -= 1
        seconds = time.perf_counter() - began
    for end in ends:
        end.send(b"")
        end.close()
        os.wait()
    return seconds


def forked() -> socket.socket:
    """The end of a pair whose other end a child process serves until it gets an empty packet."""
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        its.close()
        return mine
    mine.close()
    numbers = array("q")
    while packet := its.recv(8 * BATCH):
        del numbers[:]
        numbers.frombytes(packet)
        for number in numbers:
            noop(number)
        its.send(numbers.tobytes())
    os._exit(0)


# -- the others -----------------------------------------------------------------------------------


def through_pebble(tasks: int, processes: int) -> float:
    pebble: Any = importlib.import_module("pebble")

    with pebble.ProcessPool(max_workers=processes) as pool:
        for future in [pool.schedule(noop, timeout=TIMEOUT_S) for _ in range(processes * 4)]:
            future.result()
        began = time.perf_counter()
        for future in [pool.schedule(noop, timeout=TIMEOUT_S) for _ in range(tasks)]:
            future.result()
        return time.perf_counter() - began


def through_billiard(tasks: int, processes: int) -> float:
    billiard: Any = importlib.import_module("billiard")

    with billiard.Pool(processes) as pool:
        for result in [pool.apply_async(noop, timeout=TIMEOUT_S) for _ in range(processes * 4)]:
            result.get()
        began = time.perf_counter()
        for result in [pool.apply_async(noop, timeout=TIMEOUT_S) for _ in range(tasks)]:
            result.get()
        return time.perf_counter() - began


def through_mpire(tasks: int, processes: int) -> float:
    mpire: Any = importlib.import_module("mpire")

    with mpire.WorkerPool(n_jobs=processes, keep_alive=True) as pool:
        run = functools.partial(pool.map, noop, chunk_size=1, task_timeout=TIMEOUT_S)
        run(range(processes * 4))
        began = time.perf_counter()
        run(range(tasks))
        return time.perf_counter() - began


def through_loky(tasks: int, processes: int) -> float:
    loky: Any = importlib.import_module("loky")

    with loky.ProcessPoolExecutor(max_workers=processes) as pool:
        list(pool.map(noop, range(processes * 4)))
        began = time.perf_counter()
        list(pool.map(noop, range(tasks)))
        return time.perf_counter() - began


def through_executor(tasks: int, processes: int) -> float:
    with concurrent.futures.ProcessPoolExecutor(max_workers=processes) as pool:
        list(pool.map(noop, range(processes * 4)))
        began = time.perf_counter()
        list(pool.map(noop, range(tasks)))
        return time.perf_counter() - began


def through_multiprocessing(tasks: int, processes: int) -> float:
    with multiprocessing.Pool(processes) as pool:  # noqa: TID251 - it is measured here
        pool.map(noop, range(processes * 4), chunksize=1)
        began = time.perf_counter()
        pool.map(noop, range(tasks), chunksize=1)
        return time.perf_counter() - began


OTHERS: dict[str, Callable[[int, int], float]] = {
    "pebble": through_pebble,
    "billiard": through_billiard,
    "mpire": through_mpire,
    "loky": through_loky,
}


if __name__ == "__main__":
    main()
