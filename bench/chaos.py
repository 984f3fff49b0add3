"""Whether anything is lost, doubled or left behind while everything goes wrong at random.

    python bench/chaos.py [--seconds N] [--full] [--seed N] [--logs FOLDER] [--json FILE]

A PostgreSQL server of its own, three supervisors of four workers each, producers that
insert steadily (some jobs with idempotency keys, some that depend on others), and somebody who
cancels. Jobs run, fail, crash, hang with and without the GIL, use memory, and leave processes
behind; each notes what it does in a file outside the database. For the given time workers, their
nurseries and supervisors are killed and stopped, the server is restarted and crashed, connections
are reset and held. Then there is calm, everything is done that is left to do, and what is promised
is checked on every change of every row (a trigger keeps them) and on every execution.

The exit status is 1 if a promise was broken, and the logs are kept then. The seed repeats what is
chosen, but not the moment at which it hits.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

import synk
from chaos_check import Found, Told, checked, keep_history
from chaos_faults import Faults
from chaos_jobs import PROCESSES, TTL_S, WEIGHTS, Act, duration_s
from chaos_rig import Rig
from common import show, value, write_json
from synk import Change, InsertOptions, Priority
from synk.runtime import linux

if TYPE_CHECKING:
    from collections.abc import Callable

FULL_S: Final = 30 * 60.0
CALM_S: Final = 120.0
"""How long the rest may take: a few retries with their pauses."""

BATCH_MAX: Final = 10
PRODUCE_S: Final = (0.2, 1.2)
CANCEL_S: Final = (0.2, 1.5)
UNDECODABLE: Final = """
INSERT INTO synk.job (name, kind, args, max_attempts) VALUES ('raw', 'act', '{"how": 5}', 1)
"""


def main() -> None:
    options = parsed()
    print(f"seed {options.seed}")
    # What the pools of connections say of each connection that breaks.
    logging.getLogger("psycopg.pool").disabled = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    with Rig() as rig:
        keep_history(rig.dsn)
        run = Run(rig, options.seed)
        run.shake(options.seconds)
        run.calm_down()
        found = run.checked()
        kept = options.logs or (Path(tempfile.mkdtemp(prefix="chaos-")) if run.problems else None)
        if kept is not None:
            keep_logs(rig.folder, kept)
    report(run, found, options)
    if kept is not None:
        print(f"the logs are in {kept}")
    sys.exit(bool(run.problems))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=90.0, help="how long it goes wrong (90)")
    parser.add_argument("--full", action="store_true", help="half an hour of it")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of what happens")
    parser.add_argument("--logs", type=Path, help="also copy all logs to this folder")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if options.full:
        options.seconds = FULL_S
    return options


# -- who uses it ----------------------------------------------------------------------------------


@dataclass
class Users:
    """Producers and one who cancels, in threads, and what they were told."""

    dsn: str
    seed: int
    inserted: list[int] = field(default_factory=list)
    unknown: int = 0
    cancelled_at: dict[int, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        runs = (self._produce, self._produce, self._cancel)
        self._threads = [
            threading.Thread(target=self._guard, args=(run, random.Random(f"{self.seed} {number}")))
            for number, run in enumerate(runs)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def told(self) -> Told:
        return Told(set(self.inserted), self.unknown, self.cancelled_at)

    def _guard(self, run: Callable[..., None], chance: random.Random) -> None:
        with synk.Client(storage=synk.PostgresStorage(self.dsn)) as client:
            try:
                run(client, chance)
            except Exception as error:  # noqa: BLE001 - told in the report
                self.problems.append(f"a user of synk got {error!r}")

    # -- producing --------------------------------------------------------------------------------

    def _produce(self, client: synk.Client, chance: random.Random) -> None:
        while not self._stop.wait(chance.uniform(*PRODUCE_S)):
            has_keys = chance.random() < 0.6
            count = chance.randint(1, BATCH_MAX)
            jobs = [self._new_job(chance, has_keys=has_keys) for _ in range(count)]
            self._insert(client, jobs, has_keys=has_keys)

    def _new_job(self, chance: random.Random, *, has_keys: bool) -> tuple[str, Act, InsertOptions]:
        how = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        args = Act(how, duration_s(how, chance))
        later = datetime.now(UTC) + timedelta(seconds=chance.uniform(0.0, 3.0))
        needed = [chance.choice(self.inserted[-50:])] if self.inserted else []
        options = InsertOptions(
            priority=Priority(chance.randint(1, 4)),
            max_retries=3 if how == "outlive_a_lease" else chance.choice((0, 1, 1, 1, 2)),
            scheduled_at=later if chance.random() < 0.15 else None,
            depends_on=tuple(needed) if chance.random() < 0.2 else (),
            idempotency_key=f"{chance.getrandbits(64):x}" if has_keys else None,
        )
        return how, args, options

    def _insert(self, client: synk.Client, jobs: list[Any], *, has_keys: bool) -> None:
        """Inserts; again and again if no answer comes and that is safe."""
        while True:
            try:
                self.inserted += client.insert_many(jobs)
            except synk.StorageUnavailable:
                if has_keys and not self._stop.wait(0.2):
                    continue
                # Without a key it might be stored twice.
                self.unknown += len(jobs)
            return

    # -- cancelling -------------------------------------------------------------------------------

    def _cancel(self, client: synk.Client, chance: random.Random) -> None:
        while not self._stop.wait(chance.uniform(*CANCEL_S)):
            if not self.inserted:
                continue
            job_id = chance.choice(self.inserted[-20:])
            try:
                answer = client.cancel(job_id)
            except synk.StorageUnavailable:
                continue
            if answer is Change.APPLIED:
                self.cancelled_at[job_id] = time.monotonic()
            elif answer is Change.GONE:
                self.problems.append(f"job {job_id} was inserted and is gone")


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
        self.drain_s = 0.0
        self.postgres = ""

    def shake(self, seconds: float) -> None:
        try:
            self.faults.shake(seconds)
        finally:
            for link in self._rig.links:
                link.flow()
            self.users.stop()

    def calm_down(self) -> None:
        """Waits until everything is done, and has all processes stop."""
        began = time.monotonic()
        with psycopg.connect(self._rig.dsn, autocommit=True) as connection:
            connection.execute(UNDECODABLE)
            self.users.unknown += 1
            self.postgres = value(connection, "SHOW server_version")
            unfinished = "SELECT count(*) FROM synk.job WHERE finalized_at IS NULL"
            while value(connection, unfinished) and time.monotonic() < began + CALM_S:
                self.faults.revive()
                time.sleep(0.2)
        self.drain_s = time.monotonic() - began
        self.problems += self._rig.stop_all()
        self.owners = self._rig.owners()
        for owner in self.owners:
            if left := linux.tagged_processes(owner):
                self.problems.append(f"I16 no orphans: of {owner} are left {left}")

    def checked(self) -> Found:
        found = checked(
            self._rig.dsn,
            self._rig.folder,
            self.users.told(),
            self.faults.stopped,
            self.owners,
        )
        self.problems += self.faults.problems + self.users.problems
        self.problems += map(str, found.broken)
        return found


def keep_logs(folder: Path, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("log", "executions", "facts"):
        if (folder / name).exists():
            shutil.copy(folder / name, kept)


# -- the report -----------------------------------------------------------------------------------


def report(run: Run, found: Found, options: argparse.Namespace) -> None:
    figures = figures_of(run, found)
    show(
        f"{options.seconds:g} s of chaos, seed {options.seed}",
        ["", "count"],
        [[name, f"{figure:g}"] for name, figure in figures.items()],
        run.problems[:50],
    )
    settings = {
        "seconds": options.seconds,
        "seed": options.seed,
        "processes": PROCESSES,
        "lease_ttl_s": TTL_S,
        "postgres": run.postgres,
    }
    plain = {name.strip(): figure for name, figure in figures.items()}
    write_json(options.json, settings, {**plain, "problems": run.problems})


def figures_of(run: Run, found: Found) -> dict[str, float]:
    states = Counter(image.state for image in found.images.values())
    jobs = len({each.job_id for each in found.executions})
    facts = found.facts
    faults = {f"  {name}": count for name, count in sorted(run.faults.counts.items())}
    return {
        "jobs": len(found.images),
        **{f"  {state}": count for state, count in sorted(states.items())},
        "executions": len(found.executions),
        "  of jobs that had one before": len(found.executions) - jobs,
        "  beside another, after a stop": found.overlaps,
        "faults": run.faults.counts.total(),
        **faults,
        "supervisors begun": len(run.owners),
        "  declared dead": facts["SupervisorLost"],
        "  fenced by themselves": facts["LeaseOver"],
        "jobs rescued": facts["rescued"],
        "outcomes refused": facts["fenced"] + facts["gone"],
        "claims given back whose answer was lost": facts["ghosts"],
        "outcomes sent again": facts["sent again"],
        "inserts without an answer": run.users.unknown,
        "cancelled before they ran": len(run.users.cancelled_at),
        "seconds until all was done": round(run.drain_s, 1),
        "promises broken": len(run.problems),
    }


if __name__ == "__main__":
    main()
