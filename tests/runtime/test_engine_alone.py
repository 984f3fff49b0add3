"""The engine without a storage: jobs go in as events, and what became of them comes out."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import handlers
import synk
from core.world import job
from supervising import DEADLINE_S
from synk.config import EngineConfig
from synk.core.demand import QueueLimits
from synk.core.messages import Claimed, DrainRequested, Settle
from synk.core.pool import Pool
from synk.registry import Registry
from synk.runtime.engine import Engine
from synk.runtime.nursery import Started


@contextmanager
def running(engine_type: type[Engine]) -> Iterator[tuple[Engine, queue.SimpleQueue[Settle]]]:
    settled: queue.SimpleQueue[Settle] = queue.SimpleQueue()
    engine = engine_type(
        Pool(slots=1, queues={"default": QueueLimits(max_workers=1, timeout_s=60)}),
        EngineConfig(processes=1),
        Registry(handlers.WORKERS),
        {"default": synk.QueueConfig()},
        client_id=f"test-{uuid.uuid4()}",
        settle=settled.put,
        on_change=lambda: None,
    )
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        yield engine, settled
    finally:
        engine.post(DrainRequested(time.monotonic()))
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


class LateNews(Engine):
    """Hears of a birth only after the newborn itself has spoken, as on a busy machine."""

    late: Started | None = None

    def _on_started(self, news: Started) -> None:
        if self._processes[news.slot].is_ready:
            super()._on_started(news)
        else:
            self.late = news

    def _on_channel(self, slot: int) -> None:
        super()._on_channel(slot)
        if self.late is not None and self._processes[slot].is_ready:
            late, self.late = self.late, None
            super()._on_started(late)


def test_a_worker_that_is_ready_before_its_birth_is_announced_has_its_pid() -> None:
    with running(LateNews) as (engine, settled):
        engine.post(Claimed([job(1, kind="noop")]))

        [(_, _, pid)] = settled.get(timeout=DEADLINE_S).successes

    assert pid
