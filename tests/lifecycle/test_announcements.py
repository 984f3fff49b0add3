"""What an announcement makes a supervisor look at, and what it leaves alone."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import synk
from support.jobs import handlers
from support.supervising import ended, is_running, supervised, wait_until
from synk.claim import ClaimedJob, Fence
from synk.runtime.supervisor import maintenance_loop

RARELY = {"default": synk.QueueConfig(time_fetch=timedelta(hours=1))}


class CountingStorage(synk.PostgresStorage):
    """Takes note of what it was asked for."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.claims = 0
        self.cancel_polls = 0

    def get_job_available(self, queue: str, limit: int, **options: Any) -> list[ClaimedJob]:
        self.claims += 1
        return super().get_job_available(queue, limit, **options)

    def cancel_requests(self, owner: UUID) -> list[Fence]:
        self.cancel_polls += 1
        return super().cancel_requests(owner)


def test_a_new_job_makes_nobody_look_for_requests(dsn: str) -> None:
    storage = CountingStorage(dsn)
    with supervised(dsn, storage=storage, queues=RARELY) as client:
        ended(client, client.insert("first", handlers.Noop()))
        began, before = time.monotonic(), storage.cancel_polls

        for _ in range(30):
            ended(client, client.insert("x", handlers.Noop()))

        by_the_clock = (time.monotonic() - began) / (maintenance_loop.STAGE_S * 0.8)
        assert storage.cancel_polls - before <= by_the_clock + 2


def test_a_request_is_looked_for_at_once(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_loop, "STAGE_S", 3600.0)
    with supervised(dsn) as client:
        job_id = client.insert("x", handlers.Slow(str(tmp_path / "gate")))
        wait_until(lambda: is_running(client, job_id))

        client.cancel(job_id)

        assert ended(client, job_id).state is synk.JobState.CANCELLED


def test_jobs_of_other_queues_make_it_claim_nothing(dsn: str) -> None:
    storage = CountingStorage(dsn)
    elsewhere = synk.InsertOptions(queue="elsewhere")
    with supervised(dsn, storage=storage, queues=RARELY) as client:
        ended(client, client.insert("first", handlers.Noop()))
        before = storage.claims

        for _ in range(30):
            client.insert("x", handlers.Noop(), elsewhere)
        # Announced after them, so that all of them have been heard of.
        ended(client, client.insert("last", handlers.Noop()))

        assert storage.claims - before < 15
