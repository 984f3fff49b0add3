"""The engine without a storage: jobs go in as events, and what became of them comes out."""

from __future__ import annotations

import errno
import functools
import os
import queue
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import synk
from support.jobs import handlers
from support.pool_world import job
from support.supervising import DEADLINE_S
from synk.config import EngineConfig
from synk.core.limits import QueueLimits
from synk.core.messages import Claimed, DrainRequested, Settle
from synk.core.pool import Pool
from synk.registry import Registry
from synk.retry import Verdict
from synk.runtime.supervisor.engine import Engine
from synk.runtime.supervisor.fork_server_process import WorkerEnded, WorkerForked
from synk.runtime.supervisor.worker_process import WorkerProcess
from synk.runtime.supervisor.worker_set import WorkerSet
from synk.telemetry import Telemetry


def made(
    engine_type: Callable[..., Engine], pool_type: type[Pool] = Pool
) -> tuple[Engine, queue.SimpleQueue[Settle]]:
    settled: queue.SimpleQueue[Settle] = queue.SimpleQueue()
    engine = engine_type(
        pool_type(EngineConfig(processes=1), {"default": QueueLimits(max_workers=1, timeout_s=60)}),
        EngineConfig(processes=1),
        Registry(handlers.WORKERS),
        {"default": synk.QueueConfig()},
        client_id=f"test-{uuid.uuid4()}",
        settle=settled.put,
        on_change=lambda: None,
        facts=Telemetry(),
    )
    return engine, settled


@contextmanager
def running(
    engine_type: Callable[..., Engine],
) -> Iterator[tuple[Engine, queue.SimpleQueue[Settle]]]:
    engine, settled = made(engine_type)
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        yield engine, settled
    finally:
        engine.post(DrainRequested(time.monotonic()))
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


class LateNews(WorkerSet):
    """Hears of a process only after that itself has spoken, as on a busy machine."""

    late: WorkerForked | None = None

    def _on_forked(self, news: WorkerForked) -> None:
        if self.processes[news.slot].channel.is_ready:
            super()._on_forked(news)
        else:
            self.late = news

    def _on_news(self, slot: int, process: WorkerProcess) -> None:
        super()._on_news(slot, process)
        if self.late is not None and process.channel.is_ready:
            late, self.late = self.late, None
            super()._on_forked(late)


def test_a_worker_that_is_ready_before_its_fork_is_announced_has_its_pid() -> None:
    with running(engine_with(LateNews)) as (engine, settled):
        engine.post(Claimed([job(1, kind="noop")]))

        [(_, _, pid)] = settled.get(timeout=DEADLINE_S).successes

    assert pid


class FailsOnSuccess(Pool):
    """Has a bug that shows when a job is over and nobody was told yet."""

    def _look_at_slots(self, now: float) -> None:
        assert not self._ledger._successes, "a bug"
        super()._look_at_slots(now)


def test_a_pool_that_fails_loses_no_outcome_that_it_has_taken_in() -> None:
    engine, settled = made(Engine, FailsOnSuccess)
    engine.post(Claimed([job(1, kind="noop"), job(2, kind="noop")]))

    with pytest.raises(AssertionError, match="a bug"):
        engine.run()

    outcomes = [settled.get_nowait() for _ in range(settled.qsize())]
    done = [each.id for settle in outcomes for each, _, _ in settle.successes]
    given_back = [ended.job.id for settle in outcomes for ended in settle.ended]
    assert sorted(done + given_back) == [1, 2]
    assert 1 in done


class SpawnsOnce(WorkerSet):
    """Has no descriptors left for a second process."""

    has_spawned = False

    def spawn(self, slot: int) -> None:
        if self.has_spawned:
            raise OSError(errno.EMFILE, "too many open files")
        self.has_spawned = True
        super().spawn(slot)


def test_an_engine_that_cannot_do_the_next_thing_loses_no_outcome() -> None:
    engine, settled = made(engine_with(SpawnsOnce))
    crashing = job(1, kind="misbehave", args='{"how": "os_exit"}')
    engine.post(Claimed([crashing]))

    with pytest.raises(OSError, match="too many open files"):
        engine.run()

    (ended,) = settled.get_nowait().ended
    assert (ended.job.id, ended.verdict) == (1, Verdict.FAILED)


class LateBurial(WorkerSet):
    """Hears of an end only once the slot's next process is there, as when a big one dies slowly."""

    late: WorkerEnded | None = None

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.successors: list[int] = []

    def _on_forked(self, news: WorkerForked) -> None:
        super()._on_forked(news)
        if news.slot in self._successors:
            self.successors.append(news.pid)
            self._go_on()

    def _on_ended(self, news: WorkerEnded) -> None:
        if any(not each.pid for each in self._successors.values()):
            self.late = news
        else:
            super()._on_ended(news)

    def _go_on(self) -> None:
        if self.late is not None:
            late, self.late = self.late, None
            self._on_ended(late)


class ShortLivedSuccessor(LateBurial):
    """The first process that is made ahead dies before it takes over."""

    is_over = False

    def _go_on(self) -> None:
        if self.is_over:
            super()._go_on()
        else:
            os.kill(self.successors[0], signal.SIGKILL)

    def _on_ended(self, news: WorkerEnded) -> None:
        self.is_over = self.is_over or news.pid in self.successors
        if not self.is_over:
            self.late = news
            return
        super()._on_ended(news)
        self._go_on()


def engine_with(make_workers: type[WorkerSet]) -> Callable[..., Engine]:
    return functools.partial(Engine, make_workers=make_workers)


def crash_and_go_on(engine: Engine, settled: queue.SimpleQueue[Settle]) -> int:
    """Returns the pid of the process that ran a job after the one that had crashed."""
    crashing = job(1, kind="misbehave", args='{"how": "os_exit"}')
    engine.post(Claimed([crashing]))
    (ended,) = settled.get(timeout=DEADLINE_S).ended
    assert (ended.job.id, ended.verdict) == (1, Verdict.FAILED)
    engine.post(Claimed([job(2, kind="noop")]))
    [(_, _, pid)] = settled.get(timeout=DEADLINE_S).successes
    assert pid
    return pid


def test_the_next_process_of_a_slot_begins_while_the_last_one_dies() -> None:
    with running(engine_with(LateBurial)) as (engine, settled):
        pid = crash_and_go_on(engine, settled)

        assert isinstance(engine.worker_set, LateBurial)
        assert engine.worker_set.successors == [pid]


def test_a_successor_that_dies_before_its_time_is_missed_by_nobody() -> None:
    with running(engine_with(ShortLivedSuccessor)) as (engine, settled):
        pid = crash_and_go_on(engine, settled)

        assert isinstance(engine.worker_set, ShortLivedSuccessor)
        assert len(engine.worker_set.successors) == 1
        assert pid not in engine.worker_set.successors
