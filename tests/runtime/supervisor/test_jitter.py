"""T7: what many supervisors do at once, they do not do in one instant."""

from __future__ import annotations

import time
import uuid
from collections import Counter

import synk
from support.model import ModelStorage
from synk.core.claim_schedule import Demand
from synk.errors import StorageUnavailable
from synk.runtime.supervisor.ack_loop import AckLoop
from synk.runtime.supervisor.backoff import Backoff
from synk.runtime.supervisor.claim_loop import ClaimLoop
from synk.runtime.supervisor.engine import Engine
from synk.runtime.supervisor.jitter import jittered
from synk.telemetry import Telemetry

FLEET = 20


def claim_loop(engine: Engine, queues: dict[str, synk.QueueConfig]) -> ClaimLoop:
    storage, owner, facts = ModelStorage(), uuid.uuid4(), Telemetry()
    acks = AckLoop(storage, owner, facts)
    return ClaimLoop(storage, engine, acks, owner, queues, ["noop"], facts, wake=lambda: None)


def test_t7_supervisors_that_looked_in_one_instant_look_again_at_different_times(
    still_engine: Engine, an_hour: dict[str, synk.QueueConfig]
) -> None:
    dues: list[float] = []
    for _ in range(FLEET):
        loop = claim_loop(still_engine, an_hour)
        now = time.monotonic()
        loop.set_demand(Demand({"default": 1}))
        assert loop.step(now) == 0.0, "it has claimed"
        loop.set_demand(Demand({"default": 1}, {}, 1))
        dues.append(loop.step(now))

    assert all(2880 <= due <= 3600 for due in dues)
    assert max(dues) - min(dues) > 60


def test_t7_supervisors_that_lost_their_server_in_one_instant_come_back_at_different_times() -> (
    None
):
    fleet = [Backoff("claiming", Telemetry()) for _ in range(FLEET)]
    pauses = [[each.failed(StorageUnavailable("gone"), 0.0) for _ in range(10)] for each in fleet]

    last = [each[-1] for each in pauses]
    assert all(2.5 <= pause <= 5 for pause in last)
    assert max(last) - min(last) > 0.25
    assert all(pause <= 0.2 for pause, *_ in pauses)


def test_t7_a_spread_pause_is_as_likely_to_end_at_one_time_as_at_another() -> None:
    tenths = Counter(int(jittered(10.0, 0.1) * 10) for _ in range(10_000))

    assert set(tenths) <= set(range(90, 101))
    assert all(700 < tenths[tenth] < 1300 for tenth in range(90, 100))
