"""How long a job waits: on an idle system, beside a stuck job, and in the middle of a drain.

    python bench/latency.py [--full] [--peers] [--jobs N] [--rounds N] [--json FILE]

* insert to start: jobs inserted one by one on an idle system, from the call of `insert` to the
  handler's first line. The floor is two commits that wait for the disk, an insert's and a claim's,
  and a notification between them; beside it, a row and a notification without a claim.
* one worker stuck: one of the worker processes blocks, while short jobs arrive in bursts, the first
  of them in one insert with the job that blocks, before and behind it.
* a critical job in a drain: inserted while as many jobs as given, no-op or of 20 ms of CPU, wait.

The supervisor runs in a process of its own (`synk start`), with one worker process for each CPU.
With --peers other queues are measured too, on the idle system.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

import synk
from figures import FLOOR, SYNK, Results, interleaved, spread_of
from jobs import Block, Burn, Noop, Stamp
from machine import CPUS
from options import Size, parse, parser_of
from peers.contest import NOTIFICATION, Contest, Run, installed_versions
from peers.handlers import TIMES_VARIABLE
from peers.settings import PEERS
from peers.times import STAMPS, Times
from server import embedded_server, fresh_schema, server_facts, serving, value
from showing import publish

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Generator, Mapping

SIZES = {
    "jobs": Size(100, 2000, "jobs on the idle system in each round"),
    "rounds": Size(3, 5, "measurements of each"),
    "stuck": Size(8.0, 30.0, "seconds for which a worker blocks"),
    "noops": Size(40_000, 500_000, "no-op jobs in a drain"),
    "burns": Size(250, 4000, "jobs of 20 ms in a drain"),
}
IDLE = "insert to start, idle"
TARGETS = {f"{IDLE}: p50, ms": 1.5, f"{IDLE}: p99, ms": 3.0}

BURST = 10
BURST_PAUSE_S = 0.1
CRITICAL_PAUSE_S = 0.05
PATIENCE_S = 60.0
"""A job that waits longer is no figure but a fault."""


def main() -> None:
    options = parsed()
    results = Results()
    with embedded_server() as dsn:
        results.facts["server"] = server_facts(dsn)
        ring = Contest(dsn)
        names = [SYNK, FLOOR, NOTIFICATION]
        if options.peers:
            results.facts["peers"] = installed_versions()
            names[1:1] = ring.available(options.only or list(PEERS))
        contestants = {name: idle(ring, name, options.jobs, results) for name in names}
        interleaved(contestants, options.rounds, results)
        loaded = Loaded(dsn, results)
        interleaved({SYNK: lambda: loaded.measured(options)}, options.rounds, results)
    publish(options, "latency", "how long a job waits", results, TARGETS, ring.notes())


def parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--peers", action="store_true", help="measure other queues too")
    parser.add_argument("--only", nargs="+", choices=PEERS, help="of the peers, these")
    return parse(parser, SIZES)


def idle(
    ring: Contest, name: str, jobs: int, results: Results
) -> Callable[[], Mapping[str, float]]:
    def measure() -> Mapping[str, float]:
        found = ring.measure(name, Run("stamp", jobs=jobs, seconds=jobs * 0.5))
        if found is None:
            return {}
        results.samples.setdefault(f"{IDLE}, ms|{name}", []).extend(found["latencies_ms"])
        return spread_of(IDLE, found["latencies_ms"])

    return measure


class Loaded:
    """Waits on a system that is busy, on one server."""

    def __init__(self, dsn: str, results: Results) -> None:
        self._dsn = dsn
        self._results = results

    def measured(self, options: argparse.Namespace) -> dict[str, float]:
        stuck = f"a short job, 1 of {CPUS} workers stuck"
        return {
            **self._spread(stuck, self._stuck(options.stuck)),
            **self._spread(
                "a critical job among no-op ones", self._critical(Noop(), options.noops)
            ),
            **self._spread(
                "a critical job among 20 ms ones", self._critical(Burn(20), options.burns)
            ),
        }

    def _spread(self, name: str, waits_ms: list[float]) -> dict[str, float]:
        self._results.samples.setdefault(f"{name}, ms|{SYNK}", []).extend(waits_ms)
        return spread_of(name, waits_ms)

    def _stuck(self, seconds: float) -> list[float]:
        with self._fresh() as (client, times), serving(self._dsn, variables(times)):
            warm_up(client, times)
            stamps = Stamps(client, times)
            deadline = time.monotonic() + seconds
            stamps.insert(100, synk.InsertOptions(), among=Block(seconds))
            while time.monotonic() < deadline - 1:
                stamps.insert(BURST, synk.InsertOptions())
                time.sleep(BURST_PAUSE_S)
            return stamps.waits_ms()

    def _critical(self, args: synk.JobArgs, count: int) -> list[float]:
        with (
            self._fresh() as (client, times),
            psycopg.connect(self._dsn, autocommit=True) as looking,
        ):
            client.insert_many(("drained", args) for _ in range(count))
            stamps = Stamps(client, times)
            options = synk.InsertOptions(priority=synk.Priority.CRITICAL)
            with serving(self._dsn, variables(times)):
                wait_for(lambda: value(looking, BEGUN))
                while value(looking, LEFT):
                    stamps.insert(1, options)
                    time.sleep(CRITICAL_PAUSE_S)
                return stamps.waits_ms()

    @contextmanager
    def _fresh(self) -> Generator[tuple[synk.Client, Times]]:
        fresh_schema(self._dsn)
        with (
            tempfile.TemporaryDirectory(prefix="synk-bench-") as folder,
            synk.Client(storage=synk.PostgresStorage(self._dsn)) as client,
        ):
            yield client, Times.make(Path(folder) / "times")


BEGUN = "SELECT EXISTS (SELECT FROM synk.job WHERE state = 'completed')"
LEFT = "SELECT EXISTS (SELECT FROM synk.job WHERE state = 'available' AND kind <> 'stamp')"


class Stamps:
    """Jobs that note when they began, and when they were inserted."""

    def __init__(self, client: synk.Client, times: Times) -> None:
        self._client = client
        self._times = times
        self._inserted: list[float] = []

    def insert(
        self, count: int, options: synk.InsertOptions, among: synk.JobArgs | None = None
    ) -> None:
        first = len(self._inserted)
        if first + count >= STAMPS:
            return
        jobs = [("stamp", Stamp(number), options) for number in range(first, first + count)]
        if among is not None:
            jobs.insert(count // 2, ("among", among, options))  # pyright: ignore[reportArgumentType]
        self._inserted += [time.monotonic()] * count
        self._client.insert_many(jobs)

    def waits_ms(self) -> list[float]:
        """Waits until all have begun."""
        wait_for(lambda: all(self._times.stamped(number) for number in range(len(self._inserted))))
        return [
            (self._times.stamped(number) - inserted) * 1000
            for number, inserted in enumerate(self._inserted)
        ]


def variables(times: Times) -> dict[str, str]:
    return {TIMES_VARIABLE: str(times.path)}


def warm_up(client: synk.Client, times: Times) -> None:
    """Waits until the supervisor works."""
    client.insert("warm up", Stamp(STAMPS - 1))
    wait_for(lambda: times.stamped(STAMPS - 1))


def wait_for(fact: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {PATIENCE_S:g} s: a job does not begin")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
