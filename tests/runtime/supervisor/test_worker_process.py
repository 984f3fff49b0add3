"""Real worker processes, driven by hand."""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import reduction
from pathlib import Path

import pytest
from msgspec import structs

from support.jobs import handlers
from support.news import next_news
from support.pool_world import job
from support.supervising import wait_until
from synk.claim import ClaimedJob
from synk.config import EngineConfig
from synk.core import wire
from synk.runtime.ipc import linux, packets
from synk.runtime.ipc.setup import QueueSetup, Setup
from synk.runtime.supervisor.fork_server_process import (
    ForkServerProcess,
    ModulesImported,
    WorkerEnded,
    WorkerForked,
    preparation,
)
from synk.runtime.supervisor.output_lines import StderrWriter
from synk.runtime.supervisor.selector import Selector
from synk.runtime.supervisor.worker_process import WorkerProcess


@pytest.fixture
def setup() -> Setup:
    return Setup(
        client_id="test-worker",
        host="host",
        supervisor_pid=os.getpid(),
        modules=("support.jobs.handlers",),
        payload=bytes(reduction.ForkingPickler.dumps((handlers.WORKERS, None))),
        queues={"default": QueueSetup(timeout_s=60)},
    )


@pytest.fixture
def selector() -> Iterator[Selector]:
    selector = Selector()
    yield selector
    selector.close()


@pytest.fixture
def fork_server(setup: Setup, selector: Selector) -> Iterator[ForkServerProcess]:
    prepare = preparation(needs_main=False)
    fork_server = ForkServerProcess(EngineConfig(processes=1), setup, prepare, selector)
    assert next_news(fork_server, ModulesImported) == ModulesImported({}, [])
    yield fork_server
    fork_server.close()


@contextmanager
def started(fork_server: ForkServerProcess, setup: Setup) -> Iterator[WorkerProcess]:
    """A ready worker, of which nobody hears; it is killed at the end."""
    selector = Selector()
    worker = WorkerProcess(setup, selector, StderrWriter())
    fork_server.request(0, worker.descriptors)
    news = next_news(fork_server, WorkerForked)
    worker.forked(news.pid, news.pidfd)
    wait_until(
        lambda: (worker.channel.report(), worker.channel.is_ready)[1], what="the worker to be ready"
    )
    yield worker
    worker.kill()
    ended = next_news(fork_server, WorkerEnded)
    assert worker.exit_of(ended).signal == "SIGKILL"
    worker.close()
    selector.close()


@pytest.fixture
def worker(fork_server: ForkServerProcess, setup: Setup) -> Iterator[WorkerProcess]:
    with started(fork_server, setup) as worker:
        yield worker


def spare_of(fork_server: ForkServerProcess) -> int:
    """Waits for the process that waits for a slot; returns its pid."""

    def spare() -> int | None:
        for pid in linux.children(fork_server.pid):
            if Path(f"/proc/{pid}/comm").read_text() == "synk-spare\n":
                return pid
        return None

    return wait_until(spare, what="a spare")


def writing(number: int, path: Path) -> ClaimedJob:
    return job(number, kind="write", args=f'{{"path": "{path}", "text": "{number}"}}')


def with_args(claimed: ClaimedJob, old: str, new: str) -> ClaimedJob:
    return structs.replace(claimed, args=claimed.args.replace(old, new))


def test_what_is_taken_back_never_ran_and_the_rest_did(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    """However batches, permits and a recall race: each job runs once, in the order it was sent."""
    log = tmp_path / "log"
    chance = random.Random(7)
    waiting = deque(writing(number, log) for number in range(1, 4001))
    in_flight: deque = deque()
    sent = done = 0
    while waiting or in_flight:
        while waiting and len(in_flight) < 60:
            batch = [waiting.popleft() for _ in range(min(len(waiting), chance.randint(1, 9)))]
            worker.channel.send(sent + 1, batch)
            sent += len(batch)
            in_flight.extend(batch)
        if chance.random() < 0.8:
            report, taken = worker.channel.recall()
        else:
            report, taken = worker.channel.report(), 0
        for _ in range(report.done - done):
            in_flight.popleft()
        done = report.done
        assert taken <= len(in_flight)
        for _ in range(taken):
            waiting.appendleft(in_flight.pop())
        sent -= taken

    assert [int(line) for line in log.read_text().split()] == list(range(1, 4001))


class Overtaken(socket.socket):
    """The channel of a worker that does a job between a look at its page and one at this."""

    worker: WorkerProcess
    jobs: tuple = ()

    def recvmsg(self, *arguments):
        if self.jobs:
            jobs, self.jobs = self.jobs, ()
            self.worker.channel.send(1, jobs)
            assert select.select([self], [], [], 30)[0], "there are no news of the job"
        return super().recvmsg(*arguments)


def test_news_of_a_job_that_ends_while_they_are_read_are_not_lost(
    fork_server: ForkServerProcess, setup: Setup, tmp_path: Path
) -> None:
    with started(fork_server, setup) as worker:
        worker.channel.socket = channel = Overtaken(fileno=worker.channel.socket.detach())
        channel.worker, channel.jobs = worker, (writing(1, tmp_path / "log"),)
        report = worker.channel.report()

        assert report.done == 1 or select.select([worker.channel.socket], [], [], 0)[0]


def test_a_worker_tells_once_of_a_job_that_nothing_is_behind(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    """Each time it tells, the supervisor wakes up, and takes CPU time from the next job."""
    for number in range(1, 11):
        log = tmp_path / str(number)
        slow = with_args(writing(number, log), "}", ', "sleep_s": 0.005}')
        worker.channel.send(number, [slow])
        wait_until(lambda log=log: log.exists() and not worker.running)

    told = 0
    with contextlib.suppress(BlockingIOError):
        while packets.receive(worker.channel.socket, packets.DONT_WAIT) == wire.NEWS:
            told += 1
    # The last one may be about to be told.
    assert told in {9, 10}


def test_a_recall_of_a_busy_worker_leaves_it_the_job_that_it_runs(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    slow = writing(1, log)
    slow = with_args(slow, "}", ', "sleep_s": 0.3}')
    worker.channel.send(1, [slow, writing(2, log), writing(3, log)])
    wait_until(log.exists)

    report, taken = worker.channel.recall()

    assert (report.running, taken) == (1, 2)
    worker.channel.send(2, [writing(4, log)])
    wait_until(lambda: worker.channel.report().done == 2)
    assert log.read_text().split() == ["1", "4"]


def test_a_stopped_worker_never_makes_the_supervisor_wait(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    os.kill(worker.pid, 19)
    for number in range(1, 400):
        big = writing(number, tmp_path / "log")
        big = with_args(big, '"text": "', '"text": "' + "x" * 3000)
        worker.channel.send(number, [big])

    assert worker.channel.recall()[1] == 399


def test_a_batch_larger_than_a_packet_arrives(worker: WorkerProcess, tmp_path: Path) -> None:
    log = tmp_path / "log"
    big = writing(1, log)
    big = with_args(big, '"text": "1', '"text": "' + "y" * 800_000)

    worker.channel.send(1, [big, writing(2, log)])
    wait_until(lambda: worker.channel.report().done == 2)

    assert [len(line) for line in log.read_text().split()] == [800_000, 1]


def test_no_reply_is_missed_however_reports_race_with_the_worker(worker: WorkerProcess) -> None:
    """A job whose reply were missed would be taken for a success without a result."""
    total = 20_000
    replies: dict[int, str | None] = {}
    sent = done = 0
    while done < total:
        if sent < total and sent - done < 200:
            batch = [
                job(number, kind="typed", args=f'{{"count": {number}}}')
                for number in range(sent + 1, sent + 21)
            ]
            worker.channel.send(sent + 1, batch)
            sent += len(batch)
        report = worker.channel.report()
        done = report.done
        replies.update((number, reply.result) for number, reply in report.replies.items())
        assert len(replies) == done

    assert f'"double":{2 * total}' in str(replies[total])


def kill_and_wait(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    os.kill(pid, 9)
    assert select.select([pidfd], [], [], 30)[0]
    os.close(pidfd)


def test_the_spare_outlives_its_siblings_and_is_the_next_worker(
    fork_server: ForkServerProcess, setup: Setup
) -> None:
    with started(fork_server, setup):
        spare = spare_of(fork_server)

    with started(fork_server, setup) as worker:
        assert worker.pid == spare


def test_a_spare_that_dies_is_missed_by_nobody(
    fork_server: ForkServerProcess, setup: Setup, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    spare = spare_of(fork_server)
    kill_and_wait(spare)

    with started(fork_server, setup) as worker:
        worker.channel.send(1, [writing(1, log)])
        wait_until(log.exists)

        assert worker.pid != spare


def test_what_jobs_started_ends_also_with_a_supervisor_that_left_news_unread(
    fork_server: ForkServerProcess, setup: Setup, selector: Selector, tmp_path: Path
) -> None:
    """The kernel then says that the connection was reset, not that it was closed."""
    worker = WorkerProcess(setup, selector, StderrWriter())
    fork_server.request(0, worker.descriptors)
    log = tmp_path / "log"
    claimed = job(1, kind="misbehave", args=f'{{"how": "long_child", "path": "{log}"}}')
    worker.channel.send(1, [claimed])
    wait_until(lambda: log.exists() and "started=" in log.read_text())
    pidfd = os.pidfd_open(int(log.read_text().split("started=")[1]))

    fork_server.close()

    assert select.select([pidfd], [], [], 30)[0], "what the job started lives on"
    os.close(pidfd)
    worker.close()


def test_a_spare_ends_with_its_fork_server(fork_server: ForkServerProcess) -> None:
    pidfd = os.pidfd_open(spare_of(fork_server))

    fork_server.kill()

    assert select.select([pidfd], [], [], 30)[0], "the spare lives on"
    os.close(pidfd)


@pytest.mark.parametrize("waited", [True, False])
def test_a_worker_holds_the_descriptors_of_its_slot_once(
    fork_server: ForkServerProcess, setup: Setup, *, waited: bool
) -> None:
    """Whether it waited for the slot or was made for it."""
    if waited:
        spare_of(fork_server)
    else:
        kill_and_wait(spare_of(fork_server))

    with started(fork_server, setup) as worker:
        held = [path.readlink() for path in Path(f"/proc/{worker.pid}/fd").iterdir()]
        channel, permits, *_ = worker.descriptors

        assert held.count(Path(f"/proc/self/fd/{channel}").readlink()) == 1
        assert held.count(Path(f"/proc/self/fd/{permits}").readlink()) == 1
