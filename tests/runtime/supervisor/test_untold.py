"""What a worker has done and not told yet, since it has more to do: it counts, whatever comes."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import synk
from support.acting import lines
from support.jobs import handlers
from support.pool_world import fence, job
from support.supervising import DEADLINE_S, wait_until
from synk.claim import ClaimedJob
from synk.config import EngineConfig
from synk.core import wire
from synk.core.limits import QueueLimits
from synk.core.messages import CancelRequested, Claimed, DrainRequested, LeaseChanged, Settle
from synk.core.pool import Pool
from synk.registry import Registry
from synk.retry import EndedAttempt, Verdict
from synk.runtime.supervisor.engine import Engine
from synk.telemetry import Telemetry

LONG = 5
"""The number of the job in the batch that takes long; those before it take no time."""


class BrokenError(Exception):
    """What an engine fails of."""


class Batch:
    """Eight jobs in the hands of one worker, which is at the fifth."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.jobs = [self._job(number) for number in range(1, 9)]
        self._settled: queue.SimpleQueue[Settle] = queue.SimpleQueue()
        self.done: list[int] = []
        self.ended: dict[int, EndedAttempt] = {}
        self.engine = Engine(
            Pool(EngineConfig(processes=1), {"default": QueueLimits(max_workers=1, timeout_s=60)}),
            EngineConfig(processes=1),
            Registry(handlers.WORKERS),
            {"default": synk.QueueConfig()},
            client_id=f"test-{uuid.uuid4()}",
            settle=self._settled.put,
            on_change=lambda: None,
            facts=Telemetry(),
        )

    def _job(self, number: int) -> ClaimedJob:
        sleep_s = 1000.0 if number == LONG else 0.0
        args = {"path": str(self.log), "text": f"{number}", "sleep_s": sleep_s}
        return job(number, kind="write", args=json.dumps(args))

    def run(self) -> None:
        with suppress(BrokenError):
            self.engine.run()

    def is_ready(self) -> bool:
        return bool(
            self.engine.ask(lambda processes: 0 in processes and processes[0].channel.is_ready)
        )

    def fail_at_its_long_job(self) -> None:
        """In the engine's thread, which hears of nothing meanwhile."""
        wait_until(lambda: len(self.ran) == LONG)
        raise BrokenError

    def gather(self) -> None:
        while not self._settled.empty():
            settle = self._settled.get_nowait()
            self.done += [success[0].id for success in settle.successes]
            self.ended.update({ended.job.id: ended for ended in settle.ended})

    def wait(self, done: list[int], ended: set[int]) -> None:
        def is_there() -> bool:
            self.gather()
            return len(self.done) >= len(done) and self.ended.keys() >= ended

        wait_until(is_there, what=f"{done} and {ended}")
        assert sorted(self.done) == done
        assert self.ended.keys() == ended

    @property
    def ran(self) -> list[int]:
        return [int(words[0]) for words in lines(self.log)]


@contextmanager
def batch_at_its_long_job(log: Path, *, fails: bool = False) -> Iterator[Batch]:
    batch = Batch(log)
    batch.engine.pool.estimates.learn("write", 0.005)
    thread = threading.Thread(target=batch.run)
    thread.start()
    wait_until(batch.is_ready)
    batch.engine.post(Claimed(batch.jobs))
    if fails:
        batch.engine.call(lambda _processes: batch.fail_at_its_long_job())
    try:
        wait_until(lambda: len(batch.ran) == LONG)
        yield batch
    finally:
        batch.engine.post(DrainRequested(time.monotonic()))
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_it_is_told_in_time_though_the_job_after_it_takes_long(tmp_path: Path) -> None:
    with batch_at_its_long_job(tmp_path / "log") as batch:
        batch.wait([1, 2, 3, 4], set())
        page = batch.engine.worker_set.processes[0]._words

        # The worker sees that it need not tell of them any more.
        assert page[wire.SEEN] == page[wire.DONE] == 4


def test_it_counts_when_the_worker_is_killed_and_one_job_is_blamed(tmp_path: Path) -> None:
    with batch_at_its_long_job(tmp_path / "log") as batch:
        os.kill(batch.engine.worker_set.processes[0].pid, signal.SIGKILL)

        batch.wait([1, 2, 3, 4, 6, 7, 8], {LONG})

    assert batch.ended[LONG].verdict is Verdict.FAILED
    assert batch.ran == [1, 2, 3, 4, 5, 6, 7, 8]


def test_it_counts_when_a_job_behind_it_is_cancelled(tmp_path: Path) -> None:
    with batch_at_its_long_job(tmp_path / "log") as batch:
        batch.engine.post(CancelRequested([fence(batch.jobs[0]), fence(batch.jobs[6])]))

        batch.wait([1, 2, 3, 4], {7})

    assert batch.ended[7].verdict is Verdict.CANCELLED


def test_it_counts_when_the_lease_is_lost(tmp_path: Path) -> None:
    with batch_at_its_long_job(tmp_path / "log") as batch:
        batch.engine.post(LeaseChanged(is_over=True))

        batch.wait([1, 2, 3, 4], {LONG, 6, 7, 8})

    assert [batch.ended[number].verdict for number in (6, 7, 8)] == [Verdict.RELEASED] * 3
    assert batch.ran == [1, 2, 3, 4, 5]


def test_it_counts_at_the_end_of_a_supervisor(tmp_path: Path) -> None:
    with batch_at_its_long_job(tmp_path / "log") as batch:
        batch.engine.post(DrainRequested(time.monotonic()))

        batch.wait([1, 2, 3, 4], {LONG, 6, 7, 8})

    assert {batch.ended[number].verdict for number in (LONG, 6, 7, 8)} == {Verdict.RELEASED}


def test_it_counts_when_the_engine_fails(tmp_path: Path) -> None:
    with batch_at_its_long_job(tmp_path / "log", fails=True) as batch:
        batch.wait([1, 2, 3, 4], {LONG, 6, 7, 8})

    assert {batch.ended[number].verdict for number in (LONG, 6, 7, 8)} == {Verdict.RELEASED}
