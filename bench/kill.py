"""How long a kill takes: from a job's timeout, or its worker's SIGKILL, to a slot that works again.

    python bench/kill.py [--kills N] [--stored N] [--full] [--json FILE]

Measured on the engine alone, without a database:

* timeout to a free slot: from the moment at which a job's time is over (its start, as its worker
  noted it, plus its timeout) to a fresh worker ready on its slot, with the steps on the way;
* SIGKILL to the next job: from just before this script kills a worker, as the kernel does where
  memory is short, to the start of the next job on that slot, as the new worker noted it.

Then a few timeouts with PostgreSQL, from the end of a job's time to the next job's first line.

While it measures, one more worker for each CPU runs a job that spins, so all CPUs are busy also
without what is measured. After each kill all processes with the supervisor's tag are looked at:
whatever is neither a worker nor the fork server nor its spare has survived.

The floor is a small bare process that kills a child and forks the next one.

Forking a process and tearing it down takes time by its size, so the fork server's is shown too. It
is what this file imports, a database driver among it, as in programs that keep the client and its
workers in one module.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bare import BareProcesses
from figures import FLOOR, SYNK, Results, percentile, spread_of
from kill_engine import running_bench
from kill_jobs import DEATHS, TIMEOUTS_S
from kill_stored import stored_kills
from machine import CPUS
from options import Size, parse, parser_of
from showing import show, write_results
from watching import Kill

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

SIZES = {
    "kills": Size(300, 3000, "kills of each kind"),
    "stored": Size(40, 300, "timeouts with PostgreSQL"),
    "spinning": Size(CPUS, CPUS, "other workers, which spin"),
}
TO_READY = "timeout to a ready worker"
TO_NEXT = "SIGKILL to the next job"
BARE = "floor: SIGKILL to a fresh bare process"
TARGET_MS = (10.0, 50.0)
"""To be reached by the median and the 99th percentile."""
TIMEOUT_STEPS = {
    "the signal is sent": "decided",
    "it is seen dead": "dead",
    "its kin are dead": "reaped",
    "the next one is forked": "forked",
}
DEATH_STEPS = {
    "it is seen dead": "dead",
    "its kin are dead": "reaped",
    "the next one is forked": "forked",
    "the next one is ready": "ready",
}


def main() -> None:
    options = parse(parser_of(__doc__), SIZES)
    with running_bench(options.spinning) as bench, BareProcesses() as processes:
        timeouts = list(several(bench.time_out, tuple(TIMEOUTS_S), options.kills))
        deaths: list[Kill] = []
        bare: list[float] = []
        for kill in several(bench.kill_outside, DEATHS, options.kills):
            deaths.append(kill)
            bare.append(processes.kill_ms())
        fork_server_mb = bench.fork_server_mb
    stored = stored_kills(options.stored, options.spinning) if options.stored else []
    in_place = [kill for kill in timeouts if kill.was_in_place]
    p50_ms, p99_ms = TARGET_MS
    notes = [
        f"Meanwhile {options.spinning} other workers spin on {CPUS} CPUs.",
        f"Forked from a fork server of {fork_server_mb:.0f} MB.",
        f"To reach: {p50_ms:g} ms (p50), {p99_ms:g} ms (p99), a stack on 99 %, no survivor.",
        f"Left out, since the job was late itself: {len(timeouts) - len(in_place)}.",
    ]
    report(list(lines(in_place, deaths, stored, bare)), notes, options)
    if sum(kill.survivors for kill in (*timeouts, *deaths)):
        raise SystemExit("something survived its kill")


def several(kill: Callable[[str], Kill], hows: Sequence[str], count: int) -> Iterator[Kill]:
    """The ways in turn, so that a slow moment of the machine meets all of them."""
    for number in range(count):
        yield kill(hows[number % len(hows)])


@dataclass
class Line:
    """A line of the table."""

    name: str
    values_ms: list[float]
    kills: list[Kill] = field(default_factory=list[Kill])
    """Whose stacks and survivors are counted; empty: they are not."""
    has_stacks: bool = True

    def figures(self) -> dict[str, float]:
        ordered = sorted(self.values_ms)
        found = {
            "kills": len(ordered),
            "p50_ms": statistics.median(ordered),
            "p99_ms": percentile(ordered, 0.99),
            "max_ms": ordered[-1],
        }
        if self.kills:
            found["survivors"] = sum(kill.survivors for kill in self.kills)
        if self.kills and self.has_stacks:
            found["with_stack"] = sum(kill.has_stack for kill in self.kills) / len(self.kills)
        return found

    def cells(self) -> list[str]:
        found = self.figures()
        times = [f"{found[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")]
        stack = f"{found['with_stack']:.1%}" if "with_stack" in found else ""
        survivors = str(found.get("survivors", ""))
        return [self.name, f"{found['kills']:,}", *times, stack, survivors]


def lines(
    timeouts: list[Kill], deaths: list[Kill], stored: list[float], bare: list[float]
) -> Iterator[Line]:
    yield Line(TO_READY, [kill.ms("ready") for kill in timeouts], timeouts)
    for how in TIMEOUTS_S:
        some = [kill for kill in timeouts if kill.how == how]
        yield Line(f"  {how}", [kill.ms("ready") for kill in some], some)
    for name, step in TIMEOUT_STEPS.items():
        yield Line(f"  until {name}", [kill.ms(step) for kill in timeouts])
    values = [kill.ms("next_began") for kill in deaths]
    yield Line(TO_NEXT, values, deaths, has_stacks=False)
    for name, step in DEATH_STEPS.items():
        yield Line(f"  until {name}", [kill.ms(step) for kill in deaths])
    if stored:
        yield Line("timeout to the next job, through PostgreSQL", stored)
    yield Line(BARE, bare)


def report(found: list[Line], notes: list[str], options: argparse.Namespace) -> None:
    headings = ("", "kills", "p50 ms", "p99", "max", "stack", "left")
    show("from kill to work", headings, [line.cells() for line in found], notes)
    results = Results()
    heading = ""
    for line in found:
        if line.name.startswith(" "):
            results.facts[f"{heading}, {line.name.strip()}"] = line.figures()
            continue
        heading = line.name
        of = FLOOR if heading == BARE else SYNK
        results.facts[heading] = line.figures()
        results.samples[f"{heading}, ms|{of}"] = line.values_ms
        results.add(of, spread_of(heading, line.values_ms))
    targets: dict[str, float] = {}
    for name in (TO_READY, TO_NEXT):
        targets |= {f"{name}: p50, ms": TARGET_MS[0], f"{name}: p99, ms": TARGET_MS[1]}
    write_results(options, "kill", results, targets)


if __name__ == "__main__":
    main()
