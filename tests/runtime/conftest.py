"""What several tests of the threads around an engine need."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest

import handlers
import synk
from synk.config import EngineConfig
from synk.core.demand import QueueLimits
from synk.core.messages import DrainRequested
from synk.core.pool import Pool
from synk.registry import Registry
from synk.runtime.supervisor.engine import Engine


@pytest.fixture
def an_hour() -> dict[str, synk.QueueConfig]:
    """A queue that is fetched once an hour."""
    return {"default": synk.QueueConfig(time_fetch=timedelta(hours=1))}


@pytest.fixture
def still_engine(an_hour: dict[str, synk.QueueConfig]) -> Iterator[Engine]:
    """An engine whose loop has not begun yet."""
    engine = Engine(
        Pool(slots=1, queues={"default": QueueLimits(max_workers=1, timeout_s=60)}),
        EngineConfig(processes=1),
        Registry(handlers.WORKERS),
        an_hour,
        client_id=f"test-{uuid.uuid4()}",
        settle=lambda _: None,
        on_change=lambda: None,
    )
    yield engine
    engine.post(DrainRequested(time.monotonic()))
    engine.run()
