"""The workers of these tests."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone

import synk
from support.jobs import (
    forking,
    handlers,
    holding,
    memory,
    misbehaviour,
    observation,
    output,
    sharing,
    state,
)
from support.jobs.acts import DEEDS, Act, ActJob, note

__all__ = [
    "WORKERS",
    "forking",
    "holding",
    "memory",
    "misbehaviour",
    "observation",
    "output",
    "sharing",
    "state",
]


class Actor(synk.Worker[Act]):
    def timeout(self, job: ActJob) -> timedelta:
        return timedelta(seconds=job.args.timeout_s)

    def soft_timeout(self, job: ActJob) -> timedelta | None:
        return None if job.args.soft_s is None else timedelta(seconds=job.args.soft_s)

    def max_rss(self, job: ActJob) -> int | None:
        return job.args.max_rss

    def next_retry(self, job: ActJob, error: BaseException) -> datetime | None:
        return datetime.now(timezone.utc) if job.args.retries_at_once else None

    def work(self, job: ActJob) -> object:
        note(job, f"{job.args.do} {job.attempt} {os.getpid()}")
        return DEEDS[job.args.do](job)


@synk.worker
def brief(job: synk.Job[handlers.Noop]) -> None:
    """Takes a millisecond."""
    time.sleep(0.001)


WORKERS = [Actor(), brief]
