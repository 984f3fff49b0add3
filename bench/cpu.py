"""How much of the CPUs is spent in jobs: the share that the queue leaves to the work.

    python bench/cpu.py [--full] [--peers] [--seconds S] [--rounds N] [--json FILE]

Jobs that compute in pure Python, each until it has used 1, 5, 20 or 100 ms of CPU time, run through
one worker process for each CPU. The share is the CPU time of all jobs by the time of all CPUs from
the first job's beginning to the last one's end. The floor is the same work in bare processes that
got their share of it beforehand.

With --peers other queues run the same jobs in the same rounds, each set up as its own
documentation recommends (peers/settings.py); bench/peers/setup installs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from figures import FLOOR, SYNK, Results, interleaved
from machine import CPUS
from options import Size, parse, parser_of
from peers.contest import Contest, Run, installed_versions
from peers.settings import PEERS
from server import embedded_server, server_facts
from showing import publish

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

SIZES = {
    "seconds": Size(2.0, 20.0, "of work on all CPUs for each measurement"),
    "rounds": Size(3, 7, "measurements of each"),
}
TARGETS = {"20 ms jobs: share of the CPUs": 0.985}


def main() -> None:
    options = parsed()
    results = Results()
    with embedded_server() as dsn:
        ring = Contest(dsn)
        results.facts["server"] = server_facts(dsn)
        names = [SYNK, FLOOR]
        if options.peers:
            results.facts["peers"] = installed_versions()
            names[1:1] = ring.available(options.only or list(PEERS))
        for ms in options.ms:
            contestants = {name: measured(ring, name, ms, options.seconds) for name in names}
            interleaved(contestants, options.rounds, results)
    title = f"CPU time in jobs, by the time of {CPUS} CPUs"
    publish(options, "cpu", title, results, TARGETS, ring.notes())


def parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--ms", type=float, nargs="+", default=[1, 5, 20, 100], help="of a job (1 5 20 100)"
    )
    parser.add_argument("--peers", action="store_true", help="measure other queues too")
    parser.add_argument("--only", nargs="+", choices=PEERS, help="of the peers, these")
    return parse(parser, SIZES)


def measured(
    ring: Contest, name: str, ms: float, seconds: float
) -> Callable[[], Mapping[str, float]]:
    run = Run(
        "burn", jobs=max(CPUS, round(seconds * CPUS * 1000 / ms)), seconds=4 * seconds, argument=ms
    )

    def measure() -> Mapping[str, float]:
        found = ring.measure(name, run)
        if found is None:
            return {}
        share = found["done"] * ms / 1000 / (CPUS * found["elapsed_s"])
        return {f"{ms:g} ms jobs: share of the CPUs": share}

    return measure


if __name__ == "__main__":
    main()
