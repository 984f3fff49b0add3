"""What is more urgent than the jobs at hand is claimed at once, however many are at hand."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Any

import pytest

import synk
from support.jobs import handlers
from synk.claim import ClaimedJob
from synk.core.claim_schedule import Demand
from synk.core.dispatch import Urgent
from synk.row import JobState, Priority
from synk.runtime.supervisor.ack_loop import AckLoop
from synk.runtime.supervisor.claim_loop import ClaimLoop
from synk.runtime.supervisor.engine import Engine
from synk.status import ClientStatus
from synk.storage.postgres import PostgresStorage
from synk.telemetry import Telemetry

ABOVE_MEDIUM = {"default": Urgent(2, Priority.MEDIUM)}


@pytest.fixture
def loop(
    storage: PostgresStorage, still_engine: Engine, an_hour: dict[str, synk.QueueConfig]
) -> ClaimLoop:
    return registered(storage, still_engine, an_hour)


def registered(
    storage: PostgresStorage, engine: Engine, queues: dict[str, synk.QueueConfig]
) -> ClaimLoop:
    """The claim loop of a supervisor that holds its lease, and that jobs are announced to."""
    owner, facts = uuid.uuid4(), Telemetry()
    status = ClientStatus(
        id=owner, host="here", pid=1, version="1", processes=2, queues=("default",)
    )
    storage.register_client(status, timedelta(hours=1))
    acks = AckLoop(storage, owner, facts)
    loop = ClaimLoop(storage, engine, acks, owner, queues, ["noop"], facts, wake=lambda: None)
    loop.rely_on_announcements(are_announced=True)
    return loop


def inserted(storage: PostgresStorage, *priorities: Priority) -> list[int]:
    client = synk.Client(storage=storage)
    options = [synk.InsertOptions(priority=priority) for priority in priorities]
    return client.insert_many(("job", handlers.Noop(), each) for each in options)


def running(storage: PostgresStorage) -> set[int]:
    return {row.id for row in storage.jobs(state=JobState.RUNNING)}


def claim(loop: ClaimLoop) -> None:
    assert loop.step(time.monotonic()) == 0.0


def test_only_what_is_more_urgent_than_what_is_at_hand_is_claimed(
    storage: PostgresStorage, loop: ClaimLoop
) -> None:
    ids = inserted(storage, Priority.LOW, Priority.MEDIUM, Priority.HIGH, Priority.CRITICAL)
    loop.set_demand(Demand(urgent=ABOVE_MEDIUM))

    claim(loop)

    assert running(storage) == set(ids[2:])


def test_no_more_of_it_is_claimed_than_is_wanted(storage: PostgresStorage, loop: ClaimLoop) -> None:
    ids = inserted(storage, Priority.HIGH, Priority.CRITICAL, Priority.CRITICAL, Priority.HIGH)
    loop.set_demand(Demand(urgent=ABOVE_MEDIUM))

    claim(loop)

    assert running(storage) == set(ids[1:3])


def test_it_is_looked_for_before_hundreds_of_others_are_claimed(
    storage: PostgresStorage, loop: ClaimLoop
) -> None:
    medium, critical = inserted(storage, Priority.MEDIUM, Priority.CRITICAL)
    loop.set_demand(Demand({"default": 500}, ABOVE_MEDIUM))

    claim(loop)
    assert running(storage) == {critical}

    claim(loop)
    assert running(storage) == {critical, medium}


def test_what_it_brings_does_not_move_the_cursors(
    storage: PostgresStorage, loop: ClaimLoop
) -> None:
    inserted(storage, Priority.MEDIUM, Priority.MEDIUM, Priority.CRITICAL)
    loop.set_demand(Demand(urgent=ABOVE_MEDIUM))
    claim(loop)

    loop.set_demand(Demand({"default": 5}, {}, 1))
    claim(loop)

    assert len(running(storage)) == 3


class RefusesOnce(PostgresStorage):
    """Gives up on the first claim."""

    limits: list[int]

    def get_job_available(self, queue: str, limit: int, **options: Any) -> list[ClaimedJob]:
        self.limits.append(limit)
        if len(self.limits) == 1:
            raise synk.StorageConflict("statement timeout")
        return super().get_job_available(queue, limit, **options)


def test_a_claim_of_it_that_fails_makes_no_other_claim_smaller(
    dsn: str, still_engine: Engine, an_hour: dict[str, synk.QueueConfig]
) -> None:
    storage = RefusesOnce(dsn)
    storage.limits = []
    loop = registered(storage, still_engine, an_hour)
    loop.set_demand(Demand({"default": 500}, ABOVE_MEDIUM))
    now = time.monotonic()

    pause_s = loop.step(now)
    while len(storage.limits) < 2 or storage.limits[-1] == 2:
        now = max(now + pause_s, time.monotonic())
        pause_s = loop.step(now)

    assert storage.limits[0] == 2
    assert storage.limits[-1] == 500
    storage.close()
