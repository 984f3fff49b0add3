"""Jobs that note the tick that they are of."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import synk


@dataclass
class Note(synk.JobArgs, kind="note tick"):
    log: str
    fails: int = 0
    """So many attempts do."""


def _at_once(_job: synk.Job[Note]) -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@synk.worker(next_retry=_at_once)
def note(job: synk.Job[Note]) -> None:
    tick = None if job.tick is None else job.tick.isoformat()
    with Path(job.args.log).open("a") as log:
        log.write(json.dumps({"id": job.id, "attempt": job.attempt, "tick": tick}) + "\n")
    if job.attempt <= job.args.fails:
        raise ValueError("as asked")


WORKERS: Final = [note]


@dataclass
class NoteLimited(synk.JobArgs, kind="limited tick"):
    tenant: str


@synk.worker(limit=synk.Limit("tenants", key="args.tenant", running=1))
def note_limited(_job: synk.Job[NoteLimited]) -> None:
    pass
