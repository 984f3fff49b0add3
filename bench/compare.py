"""How synk compares with other queues: no-op jobs drained, jobs inserted, and jobs that compute.

    python bench/compare.py [--full] [--only PEER ...] [--jobs N] [--rounds N] [--json FILE]

Each queue runs as a program of its own (peers/on_*.py), on a database or Redis of its own, set up
for speed as its own documentation recommends (peers/settings.py), in turn with synk and the floor:

* drain: no-op jobs from the first one's beginning until the store has none left. A peer that has
  not finished after --seconds is measured by what it has done. The floor is synk's claim and
  acknowledgement on two connections with no workers between.
* insert: these jobs before, the fastest way that the queue has.
* share of the CPUs: jobs of 20 ms of CPU time; see cpu.py for other durations, with --peers.

bench/peers/setup makes the environment of the peers, with Python 3.13, which some need;
those that keep their jobs in Redis need a redis-server. What is not there is left out, and said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpu import measured as measured_cpu
from figures import FLOOR, SYNK, Results, interleaved
from options import Size, parse, parser_of
from peers.contest import Contest, Run, installed_versions
from peers.settings import PEERS
from server import embedded_server, server_facts
from showing import publish
from throughput import floor_rate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

SIZES = {
    "jobs": Size(10_000, 200_000, "no-op jobs for each measurement"),
    "seconds": Size(2.0, 30.0, "for a drain at most, and of work that computes"),
    "rounds": Size(1, 5, "measurements of each"),
}
DRAIN = "drain, jobs/s"
INSERT = "insert, rows/s"
COMPUTING_MS = 20.0
TARGETS = {DRAIN: 80_000, INSERT: 150_000, "20 ms jobs: share of the CPUs": 0.985}


def main() -> None:
    options = parsed()
    results = Results()
    with embedded_server() as dsn:
        ring = Contest(dsn)
        peers = ring.available(options.only or list(PEERS))
        results.facts["server"] = server_facts(dsn)
        results.facts["versions"] = installed_versions()
        results.facts["peers"] = {name: vars(PEERS[name]) for name in peers}
        contestants = {name: drained(ring, name, options) for name in [SYNK, *peers]}
        contestants[FLOOR] = lambda: {DRAIN: floor_rate(dsn, options.jobs)}
        interleaved(contestants, options.rounds, results)
        names = [SYNK, *peers, FLOOR]
        computing = {
            name: measured_cpu(ring, name, COMPUTING_MS, options.seconds) for name in names
        }
        interleaved(computing, options.rounds, results)
    publish(options, "compare", "synk and its peers", results, TARGETS, ring.notes())


def parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="+", choices=PEERS, help="of the peers, these")
    return parse(parser, SIZES)


def drained(
    ring: Contest, name: str, options: argparse.Namespace
) -> Callable[[], Mapping[str, float]]:
    def measure() -> Mapping[str, float]:
        found = ring.measure(name, Run("noop", jobs=options.jobs, seconds=options.seconds))
        return {DRAIN: found["per_s"], INSERT: found["insert_per_s"]} if found else {}

    return measure


if __name__ == "__main__":
    main()
