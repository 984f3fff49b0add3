"""Whether anything is lost, doubled or left behind while everything goes wrong at random.

    python bench/chaos [--seconds S | --minutes M | --full] [--seed S] [--logs D] [--json FILE]

A PostgreSQL server of its own, three supervisors of four workers each, processes that insert
steadily (some jobs with idempotency keys, some that depend on others, some
that are limited by their tenant, some of which a tenant has one at the most) and cancel some of it;
a queue is paused now and then, and a schedule ticks. Jobs
run, fail, crash, hang with and without the GIL, use memory, and leave processes behind; each notes
what it does in a file outside the database. After some calm seconds, for the given time workers,
their fork servers and supervisors are killed and stopped, and the server is restarted and crashed.
The server dies for good, and a standby that has all it confirmed is promoted. Connections are reset
and held at any moment. All that comes in rounds, each with every kind of fault at least once, and
the first one is always finished. Meanwhile connections are cut at chosen statements: before the
server has it, as soon as it has, or with its answer on the way. Then there is calm again,
everything is done that is left to do, and what is promised is checked on every change of every row
(a trigger keeps them) and on every execution.

The times: a rescue takes from what was done to a supervisor until another one took a job from it.
After each fault, recovery takes until the first job completes whose execution began since; any
supervisor may run it. Jobs completed a second are as many as were inserted, no capacity; the
time of the chaos ends when all that was stopped runs again.

The exit status is 1 if a promise was broken, and the logs are kept then. The seed repeats in which
order the kinds come and at which statements connections are cut, but not the moments.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from chaos.check import CAUSES, Found, Standstills, checked, keep_history
from chaos.faults import OF_SUPERVISORS, OF_USERS, PLACES, Faults
from chaos.jobs import PROCESSES, TTL_S
from chaos.rig import Rig
from chaos.times import completed_a_second, recovery_s, rescue_s
from chaos.users import Users
from figures import percentile
from server import value
from showing import show, write_json
from synk.runtime.ipc import linux

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from chaos.faults import Fault

FULL_S: Final = 30 * 60.0
CALM_S: Final = 120.0
"""How long it may take until one more job of the rest is done: a few retries with their pauses."""

CALM_PHASE_S: Final = 5.0
"""How long nothing goes wrong before, and is inserted afterwards, for the rates to compare."""

UNDECODABLE: Final = """
INSERT INTO synk.job (name, kind, args, max_attempts) VALUES ('raw', 'act', '{"how": 5}', 1)
"""


def main() -> None:
    options = parsed()
    print(f"seed {options.seed}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    with Rig() as rig:
        keep_history(rig.dsn)
        run = Run(rig, options.seed)
        run.shake(options.seconds)
        run.calm_down()
        found = run.checked()
        kept = options.logs or (Path(tempfile.mkdtemp(prefix="chaos-")) if run.problems else None)
        if kept is not None:
            keep_logs(rig.folder, kept, run.faults.log)
    report(run, found, options)
    if kept is not None:
        print(f"the logs are in {kept}")
    sys.exit(bool(run.problems))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=90.0, help="how long it goes wrong (90)")
    length.add_argument("--minutes", type=float, help="the same in minutes")
    length.add_argument("--full", action="store_true", help="half an hour of it")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of what happens")
    parser.add_argument("--logs", type=Path, help="also copy all logs to this folder")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if options.full:
        options.seconds = FULL_S
    if options.minutes is not None:
        options.seconds = 60.0 * options.minutes
    return options


# -- the run --------------------------------------------------------------------------------------


class Run:
    """From the first fault to the last check."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self._rig = rig
        self.faults = Faults(rig, seed)
        self.users = Users(rig.new_link().dsn, seed)
        self.problems: list[str] = []
        self.owners: dict[str, int] = {}
        """All supervisors that there ever were, and their pids."""
        self.declared_dead = 0
        self.phases: dict[str, tuple[float, float]] = {}
        """When what was done to it began and ended."""
        self.drain_s = 0.0
        self.postgres = ""

    def shake(self, seconds: float) -> None:
        try:
            self._calm_phase("before")
            with self._phase("during"):
                self.faults.shake(seconds)
            self.faults.revive()
            self._calm_phase("after")
        finally:
            for link in self._rig.links:
                link.flow()
            self.users.stop()

    def _calm_phase(self, name: str) -> None:
        self._rig.wait_for_workers()
        with self._phase(name):
            time.sleep(CALM_PHASE_S)

    @contextmanager
    def _phase(self, name: str) -> Generator[None]:
        began = time.monotonic()
        yield
        self.phases[name] = (began, time.monotonic())

    def calm_down(self) -> None:
        """Waits until everything is done, and has all processes stop."""
        began = time.monotonic()
        with psycopg.connect(self._rig.dsn, autocommit=True) as connection:
            connection.execute(UNDECODABLE)
            self.users.unknown += 1
            self.postgres = value(connection, "SHOW server_version")
            unfinished = "SELECT count(*) FROM synk.job WHERE finalized_at IS NULL"
            fewest, fewest_at = value(connection, unfinished), began
            while fewest and time.monotonic() < fewest_at + CALM_S:
                self.faults.revive()
                time.sleep(0.2)
                if (left := value(connection, unfinished)) < fewest:
                    fewest, fewest_at = left, time.monotonic()
        self.drain_s = time.monotonic() - began
        self.problems += self._rig.stop_all()
        with psycopg.connect(self._rig.dsn) as connection:
            if left := value(connection, "SELECT count(*) FROM synk.permit"):
                self.problems.append(f"I26 limits hold: {left} permits are left of nobody")
        self.owners = self._rig.owners()
        self.declared_dead = self._rig.declared_dead()
        for owner in self.owners:
            if left := linux.tagged_processes(owner):
                self.problems.append(f"I16 no orphans: of {owner} are left {left}")

    def checked(self) -> Found:
        found = checked(
            self._rig.dsn,
            self._rig.folder,
            self.users.told(),
            Standstills(self.faults.stopped, self.faults.fail_overs),
            self.owners,
        )
        self.problems += self.faults.problems + self.users.problems
        self.problems += map(str, found.broken)
        return found


def keep_logs(folder: Path, kept: Path, faults: Iterable[Fault]) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("log", "executions", "facts"):
        if (folder / name).exists():
            shutil.copy(folder / name, kept)
    # Like the executions by the monotonic clock.
    in_order = sorted(faults, key=lambda fault: fault.at)
    lines = [f"{fault.at:.3f} {fault.name} {fault.pid}\n" for fault in in_order]
    (kept / "faults").write_text("".join(lines))


# -- the report -----------------------------------------------------------------------------------


def report(run: Run, found: Found, options: argparse.Namespace) -> None:
    figures = figures_of(run, found)
    show(
        f"{options.seconds:g} s of chaos, seed {options.seed}",
        ["", "count"],
        [[name, f"{figure:g}"] for name, figure in figures.items()],
        run.problems[:50],
    )
    show(
        "where connections were cut, and how often",
        ["statement", *PLACES.values()],
        [
            [statement, *(str(run.faults.cut_at[statement, place]) for place in PLACES)]
            for statement in (*OF_SUPERVISORS, *OF_USERS)
        ],
    )
    times = times_of(run, found)
    show(
        "how long it took",
        ["", "times", "p50, s", "max, s"],
        [[name, *spread(values)] for name, values in times.items()],
        run.faults.notes,
    )
    settings = {
        "seconds": options.seconds,
        "seed": options.seed,
        "processes": PROCESSES,
        "lease_ttl_s": TTL_S,
        "postgres": run.postgres,
    }
    cuts = {
        f"{statement} {PLACES[place]}": count
        for (statement, place), count in run.faults.cut_at.items()
    }
    plain = {name.strip(): figure for name, figure in figures.items()}
    write_json(
        options.json, settings, {**plain, "cuts": cuts, "times_s": times, "problems": run.problems}
    )


def figures_of(run: Run, found: Found) -> dict[str, float]:
    return {
        **figures_of_jobs(run, found),
        **figures_of_executions(found),
        **figures_of_faults(run, found),
        **figures_of_phases(run, found),
        "seconds until all was done": round(run.drain_s, 1),
        "promises broken": len(run.problems),
    }


def figures_of_jobs(run: Run, found: Found) -> dict[str, float]:
    states = Counter(image.state for image in found.images.values())
    return {
        "inserted": len(run.users.inserted),
        "  without an answer": run.users.unknown,
        "  inserts repeated with their keys": run.users.repeated,
        "jobs": len(found.images),
        **{f"  {state}": count for state, count in sorted(states.items())},
        "  cancelled before they ran": len(run.users.cancelled_at),
        "times a queue was paused for certain": len(run.users.pauses),
        **{f"jobs of the queue {name}": count for name, count in sorted(found.queues.items())},
        "lost": found.broken_of("I1 nothing is lost", "I2 every job ends"),
        "two accepted outcomes for one attempt": found.broken_of("I7 one outcome"),
    }


def figures_of_executions(found: Found) -> dict[str, float]:
    jobs = len({each.job_id for each in found.executions})
    return {
        "executions": len(found.executions),
        "  more than one of a job": len(found.executions) - jobs,
        "overlapping executions": found.overlaps.total(),
        **{f"  {cause}": found.overlaps[cause] for cause in CAUSES},
    }


def figures_of_faults(run: Run, found: Found) -> dict[str, float]:
    facts = found.facts
    return {
        "faults": run.faults.counts.total(),
        **{f"  {name}": count for name, count in sorted(run.faults.counts.items())},
        "supervisors begun": len(run.owners),
        "  declared dead": run.declared_dead,
        "  fenced by themselves": facts["LeaseRanOut"],
        "jobs rescued": sum(change.is_rescue for change in found.changes),
        "outcomes refused": facts["fenced"] + facts["gone"],
        "claims given back whose answer was lost": facts["ghosts"],
        "outcomes sent again": facts["sent again"],
    }


def figures_of_phases(run: Run, found: Found) -> dict[str, float]:
    return {
        f"completed a second {name} the chaos": round(completed_a_second(found.changes, phase), 1)
        for name, phase in run.phases.items()
    }


def times_of(run: Run, found: Found) -> dict[str, list[float]]:
    recovered = recovery_s(found.changes, found.executions, run.faults.log)
    return {
        "fault to rescue": rescue_s(found.changes, run.faults.log, run.owners),
        **{f"recovery: {name}": values for name, values in sorted(recovered.items())},
    }


def spread(values: Sequence[float]) -> list[str]:
    if not values:
        return ["0", "", ""]
    return [str(len(values)), f"{percentile(values, 0.5):.2f}", f"{max(values):.2f}"]
