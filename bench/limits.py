"""What limits cost: jobs that have keys beside plain ones, and a small tenant beside a large one.

    python bench/limits.py [--full] [--jobs N] [--large N] [--small N] [--rounds N] [--json FILE]

* a drain of no-op jobs under 1,000 keys of a limit, beside one of plain jobs, and beside itself
  while another transaction keeps its snapshot. To reach: 0.5 and 0.85.
* a tenant with a few jobs beside one with very many, two processes at once for each: from the call
  of `insert` to the handler's first line.
* the CPU time that a supervisor takes while very many jobs wait for a limit, and while none wait.

There is one worker process for each CPU.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import psycopg

import synk
from figures import Results, interleaved, spread_of
from machine import CPUS
from options import Size, parse, parser_of
from peers.handlers import TIMES_VARIABLE, spin
from peers.times import Times
from server import embedded_server, fresh_schema, server_facts
from showing import publish
from throughput import Noop, noop, synk_rates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SIZES = {
    "jobs": Size(50_000, 200_000, "no-op jobs a drain"),
    "large": Size(100_000, 100_000, "jobs of the large tenant, and such as wait for a limit"),
    "small": Size(8, 40, "times that the small tenant has three jobs"),
    "rounds": Size(3, 9, "drains of each"),
}
KEYS: Final = 1_000
DRAIN: Final = "drain, jobs/s"
WAIT: Final = "small tenant, insert to start"
IDLE: Final = "CPU of an idle supervisor, ms a second"
PLAIN: Final = "plain"
KEYED: Final = "1,000 keys"
BESIDE: Final = "1,000 keys beside an open snapshot"
NONE: Final = "none wait"
THROTTLED: Final = "very many wait for a limit"
BURN_MS: Final = 20.0
IDLE_S: Final = 5.0
LOOK_S: Final = 0.005


@dataclass
class Tenant(synk.JobArgs, kind="tenant"):
    tenant: str
    number: int = -1


@dataclass
class Wait(synk.JobArgs, kind="wait"):
    pass


@synk.worker(limit=synk.Limit("keys", key="args.n", running=2))
def keyed_noop(job: synk.Job[Noop]) -> None:
    """Nothing."""


@synk.worker(limit=synk.Limit("tenants", key="args.tenant", running=2))
def tenant(job: synk.Job[Tenant]) -> None:
    if job.args.number >= 0:
        Times(Path(os.environ[TIMES_VARIABLE])).stamp(job.args.number)
    spin(BURN_MS)


@synk.worker(limit=synk.Limit("one", running=1))
def wait(_job: synk.Job[Wait]) -> None:
    time.sleep(3600)


def main() -> None:
    options = parse(parser_of(__doc__), SIZES)
    results = Results()
    with embedded_server() as dsn:
        results.facts["server"] = server_facts(dsn)
        contestants: dict[str, Callable[[], Mapping[str, float]]] = {
            PLAIN: lambda: {DRAIN: synk_rates(dsn, options.jobs, CPUS, workers=[noop]).per_s},
            KEYED: lambda: {DRAIN: keyed_rate(dsn, options.jobs)},
            BESIDE: lambda: {DRAIN: keyed_rate_beside(dsn, options.jobs)},
        }
        interleaved(contestants, options.rounds, results)
        small_tenant(dsn, options.large, options.small, results)
        for name, count in ((NONE, 0), (THROTTLED, options.large)):
            results.add(name, {IDLE: idle_ms(dsn, count)})
    notes = [
        f"keyed / plain: {ratio(results, KEYED, PLAIN):.3f} (to reach: 0.5)",
        f"keyed beside a snapshot / keyed: {ratio(results, BESIDE, KEYED):.3f} (to reach: 0.85)",
    ]
    publish(options, "limits", "jobs that have keys", results, {}, notes)


def ratio(results: Results, name: str, to: str) -> float:
    return statistics.median(results.ratios(results.figures[DRAIN, name], to))


def keyed_rate(dsn: str, jobs: int, before: Callable[[], object] = lambda: None) -> float:
    return synk_rates(
        dsn, jobs, CPUS, before, workers=[keyed_noop], args=lambda n: Noop(n % KEYS)
    ).per_s


def keyed_rate_beside(dsn: str, jobs: int) -> float:
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return keyed_rate(dsn, jobs, lambda: connection.execute("SELECT 1"))


@contextmanager
def running(dsn: str, *workers: object) -> Iterator[synk.Client]:
    client = synk.Client(
        storage=synk.PostgresStorage(dsn),
        queues={"default": synk.QueueConfig()},
        workers=workers,
        processes=CPUS,
    )
    thread = threading.Thread(target=client.start)
    thread.start()
    try:
        yield client
    finally:
        client.shutdown(LEAVE)
        thread.join()
        client.close()


LEAVE: Final = timedelta(0)


def small_tenant(dsn: str, large: int, rounds: int, results: Results) -> None:
    fresh_schema(dsn)
    waits_ms: list[float] = []
    with tempfile.TemporaryDirectory(prefix="synk-bench-") as folder:
        times = Times.make(Path(folder) / "times")
        os.environ[TIMES_VARIABLE] = str(times.path)
        with running(dsn, tenant) as client:
            client.insert_many(("large", Tenant("large")) for _ in range(large))
            for number in range(rounds):
                numbers = range(3 * number, 3 * number + 3)
                inserted = time.monotonic()
                client.insert_many(("small", Tenant("small", n)) for n in numbers)
                while not all(times.stamped(n) for n in numbers):
                    time.sleep(LOOK_S)
                waits_ms += [(times.stamped(n) - inserted) * 1000 for n in numbers]
    results.samples[f"{WAIT}, ms|{KEYED}"] = waits_ms
    results.add("beside a large tenant", spread_of(WAIT, waits_ms))


def idle_ms(dsn: str, count: int) -> float:
    """Returns how much CPU time a supervisor and its server take; one job keeps its limit."""
    fresh_schema(dsn)
    with running(dsn, wait) as client:
        client.insert_many(("wait", Wait()) for _ in range(count + 1))
        # What follows the insert: a checkpoint, a vacuum, the estimates.
        time.sleep(IDLE_S)
        before = cpu_s()
        time.sleep(IDLE_S)
        return (cpu_s() - before) / IDLE_S * 1000


def cpu_s() -> float:
    """Returns the CPU seconds of this process; its server's are not counted."""
    used = psutil.Process().cpu_times()
    return used.user + used.system


if __name__ == "__main__":
    main()
