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
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

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

T = TypeVar("T")


def perform(task: str, argument: float) -> None:
    """What every peer's handler calls."""
    if task == "noop":
        handlers.noop()
    elif task == "burn":
        handlers.burn(argument)
    elif task == "pause":
        handlers.pause(argument)
    elif task == "stamp":
        handlers.stamp(int(argument))
    else:
        handlers.counted()


class Peer(ABC):
    """A queue under measurement.

    What a run asks of it beyond this is in the protocols below: a peer has what its store and its
    producer can do, and a floor what it is the floor of.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.url: str = options.url
        """Of the database or broker that is this run's own."""
        self.settings: dict[str, Any] = json.loads(options.settings)
        self.cpus: int = options.cpus
        self._connection: Any = None

    def prepare(self) -> None:  # noqa: B027 - some need nothing
        """Makes the tables or empties the broker."""

    @abstractmethod
    def commands(self) -> list[list[str]]:
        """What is started as the peer's worker processes."""

    def value(self, text: str) -> Any:
        """What one question to the database gives; for `TellsLeft`."""
        import psycopg  # noqa: PLC0415 - not all peers have it

        if self._connection is None:
            self._connection = psycopg.connect(self.url, autocommit=True)
        row = self._connection.execute(text).fetchone()
        return row[0] if row else None


class WorkingPeer(Peer):
    """One whose workers are this program, started again."""

    @abstractmethod
    def work(self) -> None:
        """Runs jobs until it is killed."""

    def commands(self) -> list[list[str]]:
        return [[*itself(), "work", *sys.argv[2:]]] * self.settings.get("processes", 1)


@runtime_checkable
class InsertsMany(Protocol):
    """What can be drained."""

    def insert(self, task: str, argument: float, count: int) -> None:
        """Inserts *count* jobs the fastest way that the peer offers."""
        ...


@runtime_checkable
class InsertsOne(Protocol):
    """What has a latency."""

    def insert_one(self, task: str, argument: float) -> None:
        """Inserts one job, as a web request does."""
        ...


@runtime_checkable
class TellsLeft(Protocol):
    """A store that knows what is left; of others the handlers count what is done."""

    def is_done(self) -> bool:
        """Whether the store has no job left; asked often, so cheap."""
        ...

    def left(self) -> int:
        """How many jobs are not done; asked once, when the time is up."""
        ...


class AsyncPeer(WorkingPeer):
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


def able(peer: Peer, ability: type[T]) -> T:
    """Returns *peer* as one that has *ability*, or ends the run with an error for the table."""
    if not isinstance(peer, ability):
        raise SystemExit(f"{type(peer).__name__} is measured in another way: no {ability.__name__}")
    return peer


def main(peer_type: type[Peer]) -> None:
    options = _parsed()
    peer = peer_type(options)
    if options.verb == "work":
        able(peer, WorkingPeer).work()
        return
    times = Times.make(Path(options.folder) / "times")
    os.environ[handlers.TIMES_VARIABLE] = str(times.path)
    peer.prepare()
    if options.task == "stamp":
        found = _latency(peer, able(peer, InsertsOne), times, options)
    else:
        found = _drain(peer, able(peer, InsertsMany), times, options)
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


def _drain(
    peer: Peer, producer: InsertsMany, times: Times, options: argparse.Namespace
) -> dict[str, float]:
    task = options.task
    store = peer if task == "noop" and isinstance(peer, TellsLeft) else None
    if task == "noop" and store is None:
        task = "counted"
    began = time.monotonic()
    producer.insert(task, options.argument, options.jobs)
    inserted_s = time.monotonic() - began
    with _working(peer, Path(options.folder)) as check:
        _wait(lambda: times.first() > 0, START_S, check)
        deadline = times.first() + options.seconds
        if store is not None:
            done, over = _until_none_left(store, options.jobs, deadline, check)
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


def _until_none_left(store: TellsLeft, jobs: int, deadline: float, check: Any) -> tuple[int, float]:
    while time.monotonic() < deadline:
        check()
        time.sleep(POLL_S)
        if store.is_done():
            return jobs, time.monotonic()
    over = time.monotonic()
    return jobs - store.left(), over


def _latency(
    peer: Peer, producer: InsertsOne, times: Times, options: argparse.Namespace
) -> dict[str, Any]:
    """Milliseconds from the call that inserts to the job's first line, one job at a time."""
    latencies: list[float] = []
    with _working(peer, Path(options.folder)) as check:
        _until_it_runs(producer, times, check)
        deadline = time.monotonic() + options.seconds
        for number in range(options.jobs):
            began = time.monotonic()
            producer.insert_one("stamp", number)
            while not (stamped := times.stamped(number)) and time.monotonic() < deadline:
                check()
                time.sleep(0.002)
            if not stamped:
                break
            latencies.append((stamped - began) * 1000)
            time.sleep(PAUSE_S)
    return {"latencies_ms": latencies[min(5, len(latencies) // 2) :]}


def _until_it_runs(producer: InsertsOne, times: Times, check: Any) -> None:
    """Inserts a job each second until one begins: a notification may come before its listener."""
    deadline = time.monotonic() + START_S
    while not times.stamped(STAMPS - 1) and time.monotonic() < deadline:
        producer.insert_one("stamp", STAMPS - 1)
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
