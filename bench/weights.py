"""What jobs that weigh much cost others, and how long they wait beside these.

    python bench/weights.py [--full] [--heavy N] [--jobs N] [--rounds N] [--json FILE]

* a heavy kind beside a stream of light ones: jobs that take all cores, one after the other, while
  the queue is full of jobs of 20 ms of CPU; from the call of `insert` to the handler's first line.
  To reach: 5 s, after which it has a reservation, and the longest light one.
* a drain of no-op jobs, by a supervisor that has a heavy kind of which none waits, and by one that
  has none, in turn. The same with jobs of 20 ms, as a share of the CPUs.

There is one worker process for each CPU.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

import synk
from figures import SYNK, Results, interleaved, spread_of
from machine import CPUS
from options import Size, parse, parser_of
from peers.handlers import TIMES_VARIABLE, spin
from peers.times import Times
from server import embedded_server, fresh_schema, server_facts, value
from showing import publish
from throughput import noop, synk_rates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SIZES = {
    "heavy": Size(8, 40, "heavy jobs beside light ones"),
    "jobs": Size(50_000, 200_000, "no-op jobs a drain"),
    "rounds": Size(5, 11, "drains of each"),
}
WAIT: Final = "heavy job, insert to start"
DRAIN: Final = "drain, jobs/s"
LIGHT: Final = "light jobs beside heavy ones, share of the CPUs"
WITHOUT: Final = "no heavy kind"
WITH: Final = "a heavy kind, none waits"
BURN_MS: Final = 20.0
PATIENCE_S: Final = 5.0
WAITING: Final = 500
"""Light jobs that wait, at the least."""
LOOK_S: Final = 0.05
TARGETS = {f"{WAIT}: p99, ms": (PATIENCE_S + BURN_MS / 1000) * 1000}


@dataclass
class Light(synk.JobArgs, kind="light"):
    pass


@dataclass
class Heavy(synk.JobArgs, kind="heavy"):
    number: int


@synk.worker
def light(_job: synk.Job[Light]) -> None:
    spin(BURN_MS)


@synk.worker(cores=CPUS, memory="100MiB")
def heavy(job: synk.Job[Heavy]) -> None:
    Times(Path(os.environ[TIMES_VARIABLE])).stamp(job.args.number)
    spin(BURN_MS)


def main() -> None:
    options = parse(parser_of(__doc__), SIZES)
    results = Results()
    with embedded_server() as dsn:
        results.facts["server"] = server_facts(dsn)
        contestants: dict[str, Callable[[], Mapping[str, float]]] = {
            WITHOUT: lambda: {DRAIN: synk_rates(dsn, options.jobs, CPUS).per_s},
            WITH: lambda: {DRAIN: synk_rates(dsn, options.jobs, CPUS, workers=[noop, heavy]).per_s},
        }
        interleaved(contestants, options.rounds, results)
        beside(dsn, options.heavy, results)
    ratio = statistics.median(results.ratios(results.figures[DRAIN, WITH], WITHOUT))
    notes = [f"drain with a heavy kind / without: {ratio:.3f}"]
    publish(options, "weights", "jobs that weigh much", results, TARGETS, notes)


def beside(dsn: str, count: int, results: Results) -> None:
    """Inserts heavy jobs, one after the other, beside a queue full of light ones."""
    fresh_schema(dsn)
    client = synk.Client(
        storage=synk.PostgresStorage(dsn),
        queues={"default": synk.QueueConfig()},
        workers=[light, heavy],
        processes=CPUS,
        cores=CPUS,
    )
    waits_ms: list[float] = []
    with tempfile.TemporaryDirectory(prefix="synk-bench-") as folder:
        times = Times.make(Path(folder) / "times")
        os.environ[TIMES_VARIABLE] = str(times.path)

        def insert_all() -> None:
            with psycopg.connect(dsn, autocommit=True) as looking:
                fill(client, looking)
                while not value(looking, BEGUN):
                    time.sleep(LOOK_S)
                for number in range(count):
                    fill(client, looking)
                    inserted = time.monotonic()
                    client.insert("heavy", Heavy(number))
                    while not times.stamped(number):
                        fill(client, looking)
                        time.sleep(LOOK_S)
                    waits_ms.append((times.stamped(number) - inserted) * 1000)
                client.shutdown()

        producer = threading.Thread(target=insert_all)
        producer.start()
        client.start()
        producer.join()
    with psycopg.connect(dsn, autocommit=True) as connection:
        results.add(SYNK, {LIGHT: value(connection, SHARE.format(cpus=CPUS))})
    client.close()
    results.samples[f"{WAIT}, ms|{SYNK}"] = waits_ms
    results.add(SYNK, spread_of(WAIT, waits_ms))


def fill(client: synk.Client, looking: psycopg.Connection) -> None:
    if value(looking, "SELECT count(*) FROM synk.job WHERE state = 'available'") < WAITING:
        client.insert_many(("light", Light()) for _ in range(WAITING))


BEGUN = "SELECT EXISTS (SELECT FROM synk.job WHERE state = 'completed')"
SHARE = """
SELECT (sum(duration_us) / 1e6 / {cpus}
        / extract(epoch FROM max(finalized_at) - min(attempted_at)))::float8
FROM synk.job WHERE kind = 'light' AND state = 'completed'
"""


if __name__ == "__main__":
    main()
