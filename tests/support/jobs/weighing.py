"""Jobs that weigh something, and find out whether more run than there is room for.

A core is a file, and so is each 100 MiB of memory. A job takes the locks of as many as it weighs,
without waiting: where it does not get them, others run that should not. The kernel gives locks back
when a process is gone.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import synk

CORES: Final = 4
UNITS: Final = 6
UNIT_MIB: Final = 100


@dataclass
class Fate(synk.JobArgs, kind="light"):
    """What a job is to do, in which folder."""

    folder: str
    seconds: float = 0.05
    how: str = "end"


class Big(Fate, kind="big"):
    pass


class Model(Fate, kind="model"):
    pass


class Both(Fate, kind="both"):
    pass


def _taken(folder: str, what: str, there: int, count: int, stack: ExitStack) -> None:
    got = 0
    for number in range(there if count else 0):
        file = stack.enter_context((Path(folder) / f"{what}{number}").open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        got += 1
        if got == count:
            return
    if got < count:
        note(folder, f"exceeded {what}: {got} of {count}")


def note(folder: str, line: str) -> None:
    with (Path(folder) / "log").open("a") as log:
        log.write(line + "\n")


@contextmanager
def room(folder: str, *, cores: int = 1, memory: int = 0) -> Iterator[None]:
    with ExitStack() as stack:
        with (Path(folder) / "door").open("w") as door:
            # One at a time: what is let go meanwhile is there, but nobody takes it.
            fcntl.flock(door, fcntl.LOCK_EX)
            _taken(folder, "core", CORES, cores, stack)
            _taken(folder, "unit", UNITS, memory, stack)
        yield


def suffer(fate: Fate) -> None:
    note(fate.folder, f"{fate.kind} {os.getpid()} {time.monotonic()}")
    if fate.how == "hang":
        time.sleep(60)
    time.sleep(fate.seconds)
    if fate.how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate.how == "fail":
        raise ValueError("as asked")


@synk.worker
def light(job: synk.Job[Fate]) -> None:
    with room(job.args.folder):
        suffer(job.args)


@synk.worker(cores=3, timeout=timedelta(seconds=0.7))
def big(job: synk.Job[Big]) -> None:
    with room(job.args.folder, cores=3):
        suffer(job.args)


@synk.worker(memory="200MiB", timeout=timedelta(seconds=0.7))
def model(job: synk.Job[Model]) -> None:
    with room(job.args.folder, memory=2):
        suffer(job.args)


class BothWorker(synk.Worker[Both]):
    cores = 2
    memory = "300MiB"

    def timeout(self, job: synk.Job[Both]) -> timedelta:
        return timedelta(seconds=0.7)

    def work(self, job: synk.Job[Both]) -> None:
        with room(job.args.folder, cores=2, memory=3):
            suffer(job.args)


@dataclass
class Tenants(Fate, kind="of a tenant"):
    tenant: str = ""


@synk.worker(cores=2, limit=synk.Limit("weighing", key="args.tenant", running=1))
def of_a_tenant(job: synk.Job[Tenants]) -> None:
    with room(job.args.folder, cores=2):
        note(job.args.folder, f"in {job.args.tenant}")
        suffer(job.args)
        note(job.args.folder, f"out {job.args.tenant}")


@dataclass
class Looked(synk.JobArgs, kind="looks"):
    pass


@dataclass
class LookedOfTwo(synk.JobArgs, kind="looks of two"):
    pass


@dataclass
class LookedPlainly(synk.JobArgs, kind="looks plainly"):
    pass


def _looked() -> dict[str, Any]:
    """Where a job runs, and how many threads numpy uses there."""
    import numpy as np

    _ = np.ones((4, 4)) @ np.ones((4, 4))
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        threads = None
    else:
        threads = sorted(each["num_threads"] for each in threadpool_info())
    began = time.monotonic()
    time.sleep(0.05)
    tasks = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    return {
        "pid": os.getpid(),
        "cpus": sorted(os.sched_getaffinity(0)),
        "of_threads": sorted({cpu for task in tasks for cpu in os.sched_getaffinity(task)}),
        "threads": threads,
        "during": [began, time.monotonic()],
    }


@synk.worker(cores=1)
def looks(_job: synk.Job[Looked]) -> dict[str, Any]:
    return _looked()


@synk.worker(cores=2)
def looks_of_two(_job: synk.Job[LookedOfTwo]) -> dict[str, Any]:
    return _looked()


@synk.worker
def looks_plainly(_job: synk.Job[LookedPlainly]) -> dict[str, Any]:
    return _looked()


@dataclass
class Eaten(synk.JobArgs, kind="eats"):
    mib: int


@synk.worker(memory="120MiB")
def eats(job: synk.Job[Eaten]) -> int:
    eaten = bytearray(job.args.mib << 20)
    eaten[::4096] = b"x" * len(eaten[::4096])
    time.sleep(5)
    return len(eaten)


@dataclass
class Held(synk.JobArgs, kind="holds"):
    folder: str


@synk.worker(memory="100MiB", max_rss=500 << 20)
def holds(job: synk.Job[Held]) -> None:
    note(job.args.folder, "holds")
    eaten = bytearray(200 << 20)
    eaten[::4096] = b"x" * len(eaten[::4096])
    time.sleep(1)


LOCKING = [light, big, model, BothWorker()]
WORKERS = [*LOCKING, looks, looks_of_two, looks_plainly, eats, holds]
