"""A handler whose limit tests change while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import synk
from support.jobs import handlers

BOUND = synk.Limit("bound", key="args.tenant", running=1)


@dataclass
class Bounded(synk.JobArgs, kind="bounded"):
    """Notes that it has begun, and ends once the *gate* is gone."""

    tenant: str
    log: str
    gate: str


@synk.worker(limit=BOUND)
def bounded(job: synk.Job[Bounded]) -> None:
    handlers.note(job.args.log, job.args.tenant)
    while Path(job.args.gate).exists():
        time.sleep(0.01)


WORKERS = [bounded]
