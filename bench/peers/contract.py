"""How a peer is measured: a program of its own, in the same steps for each of them.

A peer's script defines a subclass of `Peer` and calls `main`. It is started with ``measure`` and
prints one line of JSON. To do so it empties its store, inserts the jobs, starts itself with
``work`` as often as the peer has processes, and waits until all jobs are done, or until the time
is up; so a peer that is slow is measured by what it has done until then.

The clock runs from the beginning of the first job; the start of the workers is not counted. No-op
jobs are over when the store has none left, so that the rate includes the acknowledgement, or,
where a store cannot tell, when the last handler returned. Jobs that compute are over when the last
handler returned.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers import handlers
from peers.times import STAMPS, Times

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

POLL_S = 0.03
STOP_S = 3.0
"""For an orderly end, which nobody needs here; then the workers are killed."""

START_S = 60.0
"""Until the first job begins. After that the time of the run counts."""

PAUSE_S = 0.03
"""Between two jobs whose latency is measured: each finds an idle system."""

URL_VARIABLE = "SYNK_BENCH_URL"
"""Where workers that are started as their own command find the database or broker."""


def perform(task: str, argument: float) -> None:
    """What every peer's handler calls."""
    if task == "noop":
        handlers.noop()
    elif task == "burn":
        handlers.burn(argument)
    elif task == "stamp":
        handlers.stamp(int(argument))
    else:
        handlers.counted()


class Peer:
    """A queue under measurement.

    Each has only what its runs ask of it: `is_done` and `left` where the store can tell, `work`
    where its workers are no command of their own, one of the inserts where it is measured in one
    way only, as a floor is. What is asked of it and is not there ends the run with an error, and
    the table says so.
    """

    can_tell_left = True
    """Whether the store knows what is left."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.url: str = options.url
        """Of the database or broker that is this run's own."""
        self.settings: dict[str, Any] = json.loads(options.settings)
        self.cpus: int = options.cpus
        self._connection: Any = None

    def prepare(self) -> None:
        """Makes the tables or empties the broker."""

    def insert(self, task: str, argument: float, count: int) -> None:
        """Inserts *count* jobs the fastest way that the peer offers."""
        raise NotImplementedError

    def insert_one(self, task: str, argument: float) -> None:
        """Inserts one job, as a web request does."""
        raise NotImplementedError

    def is_done(self) -> bool:
        """Whether the store has no job left; asked often, so cheap."""
        raise NotImplementedError

    def left(self) -> int:
        """How many jobs are not done; asked once, when the time is up."""
        raise NotImplementedError

    def work(self) -> None:
        """Runs jobs until it is killed."""
        raise NotImplementedError

    def commands(self) -> list[list[str]]:
        """What is started as the peer's worker processes."""
        return [[*itself(), "work", *sys.argv[2:]]] * self.settings.get("processes", 1)

    def value(self, text: str) -> Any:
        """What one question to the database gives; for `is_done` and `left`."""
        import psycopg  # noqa: PLC0415 - not all peers have it

        if self._connection is None:
            self._connection = psycopg.connect(self.url, autocommit=True)
        row = self._connection.execute(text).fetchone()
        return row[0] if row else None


class AsyncPeer(Peer):
    """A peer whose producer is asynchronous: it has one event loop."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._loop = asyncio.new_event_loop()

    def run(self, awaited: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(awaited)


def chunks(count: int, size: int) -> Iterator[int]:
    """The sizes of the parts of *count*, none above *size*."""
    for start in range(0, count, size):
        yield min(size, count - start)


def itself() -> list[str]:
    """The command that this program was started with, without its arguments."""
    return [sys.executable, "-m", sys.modules["__main__"].__spec__.name]  # pyright: ignore[reportOptionalMemberAccess]


def main(peer_type: type[Peer]) -> None:
    options = _parsed()
    peer = peer_type(options)
    if options.verb == "work":
        peer.work()
        return
    times = Times.make(Path(options.folder) / "times")
    os.environ[handlers.TIMES_VARIABLE] = str(times.path)
    peer.prepare()
    if options.task == "stamp":
        found = _latency(peer, times, options)
    else:
        found = _drain(peer, times, options)
    print(json.dumps(found))


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=("measure", "work"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--argument", type=float, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--cpus", type=int, required=True)
    return parser.parse_args()


def _drain(peer: Peer, times: Times, options: argparse.Namespace) -> dict[str, float]:
    task = options.task
    if task == "noop" and not peer.can_tell_left:
        task = "counted"
    began = time.monotonic()
    peer.insert(task, options.argument, options.jobs)
    inserted_s = time.monotonic() - began
    with _working(peer, Path(options.folder)) as check:
        _wait(lambda: times.first() > 0, START_S, check)
        deadline = times.first() + options.seconds
        if task == "noop":
            done, over = _until_none_left(peer, options.jobs, deadline, check)
        else:
            _wait(lambda: times.count() >= options.jobs, deadline - time.monotonic(), check)
            done, over = min(times.count(), options.jobs), times.last()
        elapsed_s = over - times.first()
    return {
        "insert_per_s": options.jobs / inserted_s,
        "done": done,
        "per_s": done / elapsed_s if elapsed_s > 0 else 0.0,
        "elapsed_s": elapsed_s,
    }


def _until_none_left(peer: Peer, jobs: int, deadline: float, check: Any) -> tuple[int, float]:
    while time.monotonic() < deadline:
        check()
        time.sleep(POLL_S)
        if peer.is_done():
            return jobs, time.monotonic()
    over = time.monotonic()
    return jobs - peer.left(), over


def _latency(peer: Peer, times: Times, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds from the call that inserts to the job's first line, one job at a time."""
    latencies: list[float] = []
    with _working(peer, Path(options.folder)) as check:
        _until_it_runs(peer, times, check)
        deadline = time.monotonic() + options.seconds
        for number in range(options.jobs):
            began = time.monotonic()
            peer.insert_one("stamp", number)
            while not (stamped := times.stamped(number)) and time.monotonic() < deadline:
                check()
                time.sleep(0.002)
            if not stamped:
                break
            latencies.append((stamped - began) * 1000)
            time.sleep(PAUSE_S)
    return {"latencies_ms": latencies[min(5, len(latencies) // 2) :]}


def _until_it_runs(peer: Peer, times: Times, check: Any) -> None:
    """Inserts a job each second until one begins: a notification may come before its listener."""
    deadline = time.monotonic() + START_S
    while not times.stamped(STAMPS - 1) and time.monotonic() < deadline:
        peer.insert_one("stamp", STAMPS - 1)
        _wait(lambda: times.stamped(STAMPS - 1) > 0, 1.0, check)


@contextlib.contextmanager
def _working(peer: Peer, folder: Path) -> Any:
    """Runs the worker processes; gives a function that ends the run if one has ended by itself."""
    log = folder / "workers.log"
    with log.open("wb") as file:
        running = [
            subprocess.Popen(command, stdout=file, stderr=file) for command in peer.commands()
        ]

    def check() -> None:
        for process in running:
            if process.poll() is not None:
                raise SystemExit(f"a worker has ended: {log.read_text()[-2000:]}")

    try:
        yield check
    finally:
        for process in running:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a worker; what it has started and left behind, the contest kills with this session."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(fact: Any, seconds: float, check: Any) -> None:
    deadline = time.monotonic() + seconds
    while not fact() and time.monotonic() < deadline:
        check()
        time.sleep(POLL_S)
