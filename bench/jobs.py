"""The jobs of the benchmarks that serve them from a process of its own, as users do.

`server.serving` starts ``synk start jobs:client`` with these variables.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import synk
from peers.handlers import TIMES_VARIABLE, spin
from peers.times import Times

DSN_VARIABLE = "SYNK_BENCH_DSN"
PROCESSES_VARIABLE = "SYNK_BENCH_PROCESSES"


@dataclass
class Noop(synk.JobArgs, kind="noop"):
    n: int = 0


@dataclass
class Burn(synk.JobArgs, kind="burn"):
    ms: float


@dataclass
class Stamp(synk.JobArgs, kind="stamp"):
    number: int


@dataclass
class Block(synk.JobArgs, kind="block"):
    seconds: float


@synk.worker
def noop(_job: synk.Job[Noop]) -> None:
    """Nothing: what is measured is all that is around a job."""


@synk.worker
def burn(job: synk.Job[Burn]) -> None:
    spin(job.args.ms)


class StampWorker(synk.Worker[Stamp]):
    """Notes when a job began."""

    times: Times | None = None

    def work(self, job: synk.Job[Stamp]) -> None:
        if StampWorker.times is None:
            StampWorker.times = Times(Path(os.environ[TIMES_VARIABLE]))
        StampWorker.times.stamp(job.args.number)


@synk.worker
def block(job: synk.Job[Block]) -> None:
    """Keeps its worker from anything else."""
    time.sleep(job.args.seconds)


client = synk.Client(
    storage=synk.PostgresStorage(os.environ.get(DSN_VARIABLE, "embedded")),
    queues={"default": synk.QueueConfig()},
    workers=[noop, burn, StampWorker(), block],
    processes=int(os.environ.get(PROCESSES_VARIABLE, "2")),
)
