"""What reaches an engine when its loop is over."""

from __future__ import annotations

import os
import time
import uuid

import pytest

import synk
from support.jobs import handlers
from synk.config import EngineConfig
from synk.core.limits import QueueLimits
from synk.core.messages import DrainRequested, Tick
from synk.core.pool import Pool
from synk.registry import Registry
from synk.runtime.supervisor.engine import Engine
from synk.telemetry import Telemetry


def test_q5_what_comes_after_the_loop_is_written_into_no_file_of_others() -> None:
    engine = Engine(
        Pool(EngineConfig(processes=1), {"default": QueueLimits(max_workers=1, timeout_s=60)}),
        EngineConfig(processes=1),
        Registry(handlers.WORKERS),
        {"default": synk.QueueConfig()},
        client_id=f"test-{uuid.uuid4()}",
        settle=lambda _: None,
        on_change=lambda: None,
        facts=Telemetry(),
    )
    engine.post(DrainRequested(time.monotonic()))
    engine.run()
    others = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(64)]

    engine.post(Tick())
    engine.call(lambda _: None)

    for other in others:
        with pytest.raises(BlockingIOError):
            os.eventfd_read(other)
        os.close(other)
