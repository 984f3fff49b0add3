"""How many jobs a second that wait for something else, by the number of worker processes.

    python bench/waiting.py [--full] [--ms MS] [--jobs N] [--processes N ...] [--peers]
                            [--json FILE]

A job that waits for a network or a disk leaves its CPU idle, so more processes than CPUs run more
of them at once. Here each job sleeps. The floor is what as many processes could do if there were
nothing to do but to sleep: processes divided by the time that one sleep really takes.

With --peers PgQueuer runs as many jobs that await a sleep, in one event loop.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

import synk
from figures import FLOOR, SYNK, Results, interleaved
from options import Size, parse, parser_of
from peers.contest import Contest, Run
from server import embedded_server, fresh_schema, server_facts, serving, value
from showing import publish

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

SIZES = {
    "ms": Size(1.0, 1.0, "that a job sleeps"),
    "jobs": Size(10_000, 60_000, "jobs for each number of processes"),
    "rounds": Size(2, 5, "measurements of each"),
}
LOOK_S = 0.1
START_S = 60.0
SLEEPS = 200
PEERS_THAT_AWAIT = ["PgQueuer"]
"""Of those that run jobs in an event loop the fastest."""


@dataclass
class Pause(synk.JobArgs, kind="block"):
    """The arguments of the job of `jobs.py` that sleeps."""

    seconds: float


def main() -> None:
    options = parsed()
    results = Results()
    with embedded_server() as dsn:
        results.facts["server"] = server_facts(dsn)
        contestants: dict[str, Callable[[], Mapping[str, float]]] = {
            SYNK: lambda: {
                quantity(count): drained(dsn, options, count) for count in options.processes
            },
            FLOOR: lambda: sleeping(options),
        }
        ring = Contest(dsn)
        if options.peers:
            for name in ring.available(PEERS_THAT_AWAIT):
                contestants[name] = awaited(ring, name, options)
        interleaved(contestants, options.rounds, results)
    title = f"jobs that wait for {options.ms:g} ms"
    publish(options, "waiting", title, results, {}, ring.notes())


def parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[2, 4, 8, 16], help="(2 4 8 16)"
    )
    parser.add_argument("--peers", action="store_true", help="measure PgQueuer too")
    return parse(parser, SIZES)


def awaited(
    ring: Contest, name: str, options: argparse.Namespace
) -> Callable[[], Mapping[str, float]]:
    """Its rate, the same for every number of processes, since it has one."""

    def measure() -> Mapping[str, float]:
        run = Run("pause", jobs=options.jobs, seconds=60, argument=options.ms)
        found = ring.measure(name, run)
        return {quantity(count): found["per_s"] for count in options.processes} if found else {}

    return measure


def quantity(processes: int) -> str:
    return f"{processes} processes, jobs/s"


def sleeping(options: argparse.Namespace) -> dict[str, float]:
    began = time.perf_counter()
    for _ in range(SLEEPS):
        time.sleep(options.ms / 1e3)
    one_s = (time.perf_counter() - began) / SLEEPS
    return {quantity(count): count / one_s for count in options.processes}


def drained(dsn: str, options: argparse.Namespace, processes: int) -> float:
    """Jobs a second from the first claim to the last acknowledgement, by the database's clock."""
    fresh_schema(dsn)
    with (
        synk.Client(storage=synk.PostgresStorage(dsn)) as client,
        psycopg.connect(dsn, autocommit=True) as connection,
        serving(dsn, processes=processes),
    ):
        deadline = time.monotonic() + START_S
        while not value(connection, "SELECT EXISTS (SELECT FROM synk.client)"):
            if time.monotonic() > deadline:
                raise SystemExit(f"the supervisor did not start within {START_S:g} s")
            time.sleep(LOOK_S)
        # In one transaction: they are there all at once.
        client.insert_many(("pause", Pause(options.ms / 1e3)) for _ in range(options.jobs))
        while value(connection, "SELECT EXISTS (SELECT FROM synk.job WHERE finalized_at IS NULL)"):
            time.sleep(LOOK_S)
        seconds = value(
            connection,
            "SELECT extract(epoch FROM max(finalized_at) - min(attempted_at))::float8"
            " FROM synk.job",
        )
    return options.jobs / seconds


if __name__ == "__main__":
    main()
