"""One real worker process, driven by hand."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections import deque
from collections.abc import Iterator
from multiprocessing import reduction
from pathlib import Path

import pytest

import handlers
from core.world import job
from supervising import wait_until
from synk.runtime import child
from synk.runtime.process import WorkerProcess


def make_setup(channel, permits, page) -> child.Setup:
    return child.Setup(
        client_id="client",
        host="host",
        supervisor_pid=os.getpid(),
        modules=("handlers",),
        workers=bytes(reduction.ForkingPickler.dumps(handlers.WORKERS)),
        channel=channel,
        permits=permits,
        page=page,
    )


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    worker = WorkerProcess(multiprocessing.get_context("spawn"), make_setup, "test-worker")
    wait_until(lambda: (worker.report(), worker.is_ready)[1], what="the worker to be ready")
    yield worker
    worker.kill()
    worker.process.join()
    worker.bury()
    worker.close()


def writing(number: int, path: Path):
    claimed = job(number, kind="write")
    claimed.args = f'{{"path": "{path}", "text": "{number}"}}'
    return claimed


def test_what_is_taken_back_never_ran_and_the_rest_did(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    """However frames, permits and a recall race: each job runs once, in the order it was sent."""
    log = tmp_path / "log"
    chance = random.Random(7)
    waiting = deque(writing(number, log) for number in range(1, 4001))
    in_flight: deque = deque()
    sent = done = 0
    while waiting or in_flight:
        while waiting and len(in_flight) < 60:
            frame = [waiting.popleft() for _ in range(min(len(waiting), chance.randint(1, 9)))]
            worker.send(sent + 1, frame)
            sent += len(frame)
            in_flight.extend(frame)
        if chance.random() < 0.8:
            report, taken = worker.recall()
        else:
            report, taken = worker.report(), 0
        for _ in range(report.done - done):
            in_flight.popleft()
        done = report.done
        assert taken <= len(in_flight)
        for _ in range(taken):
            waiting.appendleft(in_flight.pop())
        sent -= taken

    assert [int(line) for line in log.read_text().split()] == list(range(1, 4001))


def test_a_recall_of_a_busy_worker_leaves_it_the_job_that_it_runs(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    slow = writing(1, log)
    slow.args = slow.args.replace("}", ', "sleep_s": 0.3}')
    worker.send(1, [slow, writing(2, log), writing(3, log)])
    wait_until(log.exists)

    report, taken = worker.recall()

    assert (report.running, taken) == (1, 2)
    worker.send(2, [writing(4, log)])
    wait_until(lambda: worker.report().done == 2)
    assert log.read_text().split() == ["1", "4"]


def test_a_stopped_worker_never_makes_the_supervisor_wait(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    os.kill(worker.pid, 19)
    for number in range(1, 400):
        big = writing(number, tmp_path / "log")
        big.args = big.args.replace('"text": "', '"text": "' + "x" * 3000)
        worker.send(number, [big])

    assert worker.wants_flush
    assert worker.recall()[1] == 399
    assert not worker.wants_flush


def test_a_frame_larger_than_a_packet_arrives(worker: WorkerProcess, tmp_path: Path) -> None:
    log = tmp_path / "log"
    big = writing(1, log)
    big.args = big.args.replace('"text": "1', '"text": "' + "y" * 800_000)

    worker.send(1, [big, writing(2, log)])
    wait_until(lambda: worker.report().done == 2)

    assert [len(line) for line in log.read_text().split()] == [800_000, 1]
