"""Whether synk has become slower: its ratios to the floor and to a peer, beside the recorded ones.

    python bench/guard.py [--full] [--record] [--only CHECK ...] [--json FILE]

Rates depend on the machine and on what else it does, so only ratios are compared: synk and what it
is compared with run in turn, every other time backwards, and the median of the ratios of all
repetitions counts. One that is more than 15 % below the one in ratios.json is measured once more
with twice as many repetitions; if it still is, the guard fails. Ratios that rose as much are named,
to be recorded anew on a quiet machine, with --record. Those now there are a little below the first.

A machine that is busy with something else in the second before or after is no judge, since the
ratios of waits suffer most then: what fell is named, and the guard passes. Of waits the tenth that
was disturbed least counts. The ratios depend on the number of CPUs too: on a machine with another
number nothing is compared.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

import pool
from figures import FLOOR, SYNK, Results, percentile
from insert import Producer, quantity_of
from insert import contestants as inserting
from machine import CPUS, machine
from options import Size, parse, parser_of
from peers.contest import Contest, Run
from server import embedded_server, fresh_schema
from showing import number, show, write_results
from throughput import floor_rate, synk_rates

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

RECORDED = Path(__file__).parent / "ratios.json"
TOLERANCE = 0.15
BUSY_PERCENT = 20.0
"""Of all CPUs, used by something else."""

SIZES = {
    "rounds": Size(3, 9, "repetitions of each"),
    "scale": Size(1, 5, "times the work of each repetition"),
}
NAMES = ("drain", "cpu", "latency", "insert", "pool")


@dataclass(frozen=True)
class Check:
    """One ratio, the larger the better."""

    name: str
    to: str
    ours: Callable[[], float]
    theirs: Callable[[], float]

    def ratio(self, rounds: int) -> float:
        found: list[float] = []
        for turn in range(rounds):
            if turn % 2:
                theirs, ours = self.theirs(), self.ours()
            else:
                ours, theirs = self.ours(), self.theirs()
            found.append(ours / theirs)
        return statistics.median(found)


@dataclass
class Verdict:
    check: Check
    ratio: float
    recorded: float | None
    is_second: bool = False

    @property
    def change(self) -> float:
        return self.ratio / self.recorded - 1 if self.recorded else 0.0

    @property
    def has_fallen(self) -> bool:
        return self.change < -TOLERANCE

    def cells(self) -> list[str]:
        recorded = "" if self.recorded is None else number(self.recorded)
        change = "" if self.recorded is None else f"{self.change:+.0%}"
        return [self.check.name, self.check.to, number(self.ratio), recorded, change, self._word()]

    def _word(self) -> str:
        if self.recorded is None:
            return "not compared"
        if abs(self.change) <= TOLERANCE:
            return "as before, at the second try" if self.is_second else "as before"
        return "faster: record it" if self.change > 0 else "slower, twice"


def main() -> None:
    options = parsed()
    recorded = {} if options.record else recorded_ratios()
    busy = psutil.cpu_percent(interval=1.0)
    with embedded_server() as dsn:
        fresh_schema(dsn)
        verdicts = [
            judged(check, recorded.get(check.name), options.rounds)
            for check in checks(dsn, options.scale)
            if check.name in options.only
        ]
    headings = ("", "to", "ratio", "recorded", "change", "")
    show("synk's ratios", headings, [verdict.cells() for verdict in verdicts])
    keep(verdicts, options)
    busy = max(busy, psutil.cpu_percent(interval=1.0))
    if slower := [verdict.check.name for verdict in verdicts if verdict.has_fallen]:
        found = f"slower by more than {TOLERANCE:.0%}, twice: {', '.join(slower)}"
        if busy <= BUSY_PERCENT:
            raise SystemExit(found)
        print(f"{found}; but something else used {busy:.0f} % of the CPUs, so this does not count")


def parsed() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--record", action="store_true", help="write the ratios to ratios.json")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="these checks")
    return parse(parser, SIZES)


def recorded_ratios() -> dict[str, float]:
    """None where they do not apply, and that is said."""
    if not RECORDED.exists():
        print("nothing is recorded yet: --record does")
        return {}
    content = json.loads(RECORDED.read_text())
    if content["machine"]["cpus"] != CPUS:
        print(f"recorded with {content['machine']['cpus']} CPUs, here are {CPUS}: not compared")
        return {}
    return content["ratios"]


def judged(check: Check, recorded: float | None, rounds: int) -> Verdict:
    verdict = Verdict(check, check.ratio(rounds), recorded)
    if verdict.has_fallen:
        verdict = Verdict(check, check.ratio(2 * rounds), recorded, is_second=True)
    return verdict


def keep(verdicts: list[Verdict], options: argparse.Namespace) -> None:
    ratios = {verdict.check.name: round(verdict.ratio, 4) for verdict in verdicts}
    if options.record:
        before = json.loads(RECORDED.read_text())["ratios"] if RECORDED.exists() else {}
        content = {"machine": machine(), "ratios": {**before, **ratios}}
        RECORDED.write_text(json.dumps(content, indent=2) + "\n")
    results = Results()
    results.add(SYNK, {f"{name}, ratio": ratio for name, ratio in ratios.items()})
    write_results(options, "guard", results, {})


# -- what is checked ------------------------------------------------------------------------------


def checks(dsn: str, scale: int) -> list[Check]:
    ring = Contest(dsn)
    jobs, tasks, latencies = 10_000 * scale, 10_000 * scale, 60 * scale
    return [
        Check(
            "drain",
            "two connections without workers",
            lambda: synk_rates(dsn, jobs, CPUS).per_s,
            lambda: floor_rate(dsn, jobs),
        ),
        Check(
            "cpu",
            "bare processes",
            lambda: share(ring, SYNK, scale),
            lambda: share(ring, FLOOR, scale),
        ),
        Check(
            "latency",
            "two commits and a notification",
            lambda: 1 / short_latency(ring, SYNK, latencies),
            lambda: 1 / short_latency(ring, FLOOR, latencies),
        ),
        Check(
            "insert",
            "a bare INSERT",
            lambda: insert_rate(dsn, SYNK, 20_000 * scale),
            lambda: insert_rate(dsn, FLOOR, 20_000 * scale),
        ),
        Check(
            "pool",
            "multiprocessing.Pool",
            lambda: tasks / pool.through_synk(tasks, CPUS),
            lambda: tasks / pool.through_multiprocessing(tasks, CPUS),
        ),
    ]


def share(ring: Contest, name: str, scale: int) -> float:
    """Jobs of 20 ms of CPU in a second, all CPUs for a second or more."""
    found = ring.measure(name, Run("burn", jobs=50 * CPUS * scale, seconds=60, argument=20))
    if found is None:
        raise SystemExit(ring.missing[name])
    return found["per_s"]


def short_latency(ring: Contest, name: str, jobs: int) -> float:
    found = ring.measure(name, Run("stamp", jobs=jobs, seconds=60))
    if found is None:
        raise SystemExit(ring.missing[name])
    return percentile(found["latencies_ms"], 0.1)


def insert_rate(dsn: str, name: str, rows: int) -> float:
    with Producer(dsn) as producer:
        return inserting(producer, calls=1, rows=rows)[name]()[quantity_of(10_000)]


if __name__ == "__main__":
    main()
