"""What a job of these tests is told to do, and where it notes what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import synk
from support.jobs import handlers


@dataclass
class Act(synk.JobArgs, kind="act"):
    do: str
    log: str = ""
    path: str = ""
    """A file that the deed waits for."""
    number: int = 0
    text: str = ""
    timeout_s: float = 120.0
    soft_s: float | None = None
    max_rss: int | None = None
    retries_at_once: bool = False


ActJob = synk.Job[Act]
Deed = Callable[[ActJob], object]
DEEDS: dict[str, Deed] = {}


def deed(function: Deed) -> Deed:
    DEEDS[function.__name__] = function
    return function


def note(job: ActJob, text: str) -> None:
    if job.args.log:
        handlers.note(job.args.log, text)
