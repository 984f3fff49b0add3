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
whatever is neither a worker nor the nursery nor its spare has survived.

The floor is a small bare process that kills a child and forks the next one.

Forking a process and tearing it down takes time by its size, so the nursery's is shown too. It is
what this file imports, a database driver among it, as in programs that keep the client and its
workers in one module.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import random
import signal
import statistics
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

import synk
from bare import BareProcesses
from figures import FLOOR, SYNK, Results, percentile, spread_of
from server import embedded_server, fresh_schema
from showing import show, write_results
from synk.claim import ClaimedJob
from synk.config import EngineConfig
from synk.core import messages as m
from synk.core.demand import QueueLimits
from synk.registry import Registry
from synk.runtime import linux
from watching import PATIENCE_S, Kill, Watch, WatchedEngine, WatchedPool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

CPUS = len(os.sched_getaffinity(0))
LONG_S = 3600.0
TO_READY = "timeout to a ready worker"
TO_NEXT = "SIGKILL to the next job"
BARE = "floor: SIGKILL to a fresh bare process"
TARGET_MS = (10.0, 50.0)
"""To be reached by the median and the 99th percentile."""


# -- the jobs that are killed ---------------------------------------------------------------------


@dataclass
class Misbehave(synk.JobArgs, kind="misbehave"):
    how: str
    timeout_s: float = LONG_S


def in_place(job: synk.Job[Misbehave]) -> None:
    """Says that the job is where it is to be killed, and when its time is over."""
    job.checkpoint(job.deadline.timestamp() if job.deadline else None)


class Misbehaver(synk.Worker[Misbehave]):
    """Each method is a way not to come back, and its name is looked for in the stack."""

    def timeout(self, job: synk.Job[Misbehave]) -> timedelta:
        return timedelta(seconds=job.args.timeout_s)

    def work(self, job: synk.Job[Misbehave]) -> None:
        getattr(self, job.args.how)(job)

    def spin(self, job: synk.Job[Misbehave]) -> None:
        in_place(job)
        while True:
            pass

    def hold_gil(self, job: synk.Job[Misbehave]) -> None:
        in_place(job)
        while True:
            ctypes.PyDLL(None).pause()

    def start_processes(self, job: synk.Job[Misbehave]) -> None:
        """A child, one in a session of its own, and one whose parent has gone."""
        subprocess.Popen(["/bin/sleep", "1000"])
        subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
        subprocess.run(["/bin/sh", "-c", "setsid sleep 1000 &"], check=True)
        in_place(job)
        while True:
            signal.pause()

    def stop_itself(self, job: synk.Job[Misbehave]) -> None:
        in_place(job)
        while True:
            os.kill(os.getpid(), signal.SIGSTOP)


@dataclass
class Clock(synk.JobArgs, kind="clock"):
    pass


@synk.worker
def clock(_job: synk.Job[Clock]) -> float:
    return datetime.now(UTC).timestamp()


TIMEOUTS_S = {"spin": 0.1, "hold_gil": 0.1, "start_processes": 0.25, "stop_itself": 0.1}
"""Enough for a job to get where it is to be killed, on busy cores."""

DEATHS = ("spin", "hold_gil")
"""What a worker does when it gets a SIGKILL."""


# -- without a database ---------------------------------------------------------------------------


class Bench:
    """A pool without a storage: a slot that is measured, and others whose jobs spin."""

    def __init__(self, engine: WatchedEngine, watch: Watch, tag: str, spinning: int) -> None:
        self._spinning = spinning
        self._engine = engine
        self._watch = watch
        self._tag = tag
        self._jobs = 0
        self._nursery = 0
        self.nursery_mb = 0.0

    def begin(self) -> None:
        for _ in range(self._spinning + 1):
            self._watch.wait_for("ready")
        for _ in range(self._spinning):
            self._post(self._job("spin"))
            self._watch.wait_for("running")
        worker = psutil.Process(next(iter(self._watch.pids.values())))
        self._nursery = worker.ppid()
        self.nursery_mb = linux.resident_bytes(self._nursery) / 1e6

    def time_out(self, how: str) -> Kill:
        kill = self._watch.kill = Kill(how, self._job(how, TIMEOUTS_S[how]))
        self._post(kill.job)
        self._watch.wait_for("ready")
        return self._ended(kill)

    def kill_outside(self, how: str) -> Kill:
        following = self._job("next", kind="clock")
        kill = self._watch.kill = Kill(how, self._job(how), following)
        self._post(kill.job)
        self._watch.wait_for("running")
        self._post(following)
        time.sleep(random.uniform(0.08, 0.12))
        pid = self._watch.pids[kill.slot]
        if pid <= 0:
            raise SystemExit(f"slot {kill.slot} has no worker to kill")
        kill.over = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self._watch.wait_for("next")
        return self._ended(kill)

    def _ended(self, kill: Kill) -> Kill:
        self._watch.kill = None
        expected = {self._nursery, *self._watch.pids.values()}
        others = set(linux.tagged_processes(self._tag)) - expected
        kill.survivors = sum(not is_spare(pid) for pid in others)
        return kill

    def _post(self, job: ClaimedJob) -> None:
        self._engine.post(m.Claimed([job]))

    def _job(self, how: str, timeout_s: float = LONG_S, *, kind: str = "misbehave") -> ClaimedJob:
        self._jobs += 1
        now = datetime.now(UTC).timestamp()
        args = {"how": how, "timeout_s": timeout_s} if kind == "misbehave" else {}
        return ClaimedJob(
            id=self._jobs,
            attempt=1,
            kind=kind,
            priority=synk.Priority.MEDIUM,
            scheduled_at=now,
            max_attempts=1,
            uncounted=0,
            name=how,
            created_at=now,
            attempted_at=now,
            args=json.dumps(args),
            history=None,
            queue="default",
            claim_seq=1,
        )


def is_spare(pid: int) -> bool:
    """Whether it is the process that the nursery keeps for the next slot, just forked perhaps."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() in ("synk-spare\n", "synk-nursery\n")
    except OSError:
        return False


@contextmanager
def running_bench(spinning: int) -> Generator[Bench]:
    """An engine in a thread; at the end nothing of it may be left."""
    watch, tag = Watch(), f"bench-kill-{os.getpid()}"
    processes = spinning + 1
    limits = QueueLimits(max_workers=processes, timeout_s=LONG_S)
    engine = WatchedEngine(
        WatchedPool(watch, slots=processes, queues={"default": limits}),
        EngineConfig(processes=processes),
        Registry([Misbehaver(), clock]),
        {"default": synk.QueueConfig(job_timeout=timedelta(seconds=LONG_S))},
        client_id=tag,
        settle=lambda _: None,
        on_change=lambda: None,
    )
    engine.watch = watch
    thread = threading.Thread(target=engine.run)
    thread.start()
    bench = Bench(engine, watch, tag, spinning)
    try:
        bench.begin()
        yield bench
    finally:
        engine.post(m.DrainRequested(time.monotonic()))
        thread.join()
    if left := linux.tagged_processes(tag):
        raise SystemExit(f"processes are left at the end: {left}")


# -- with a database ------------------------------------------------------------------------------


def stored_kills(count: int, spinning: int) -> list[float]:
    """Milliseconds from a timeout to the next job's first line, everything through PostgreSQL."""
    with embedded_server() as dsn:
        fresh_schema(dsn)
        client = synk.Client(
            storage=synk.PostgresStorage(dsn),
            queues={"default": synk.QueueConfig()},
            workers=[Misbehaver(), clock],
            logger=silent(),
            processes=spinning + 1,
        )
        thread = threading.Thread(target=client.start)
        thread.start()
        try:
            for job_id in client.insert_many([("busy", Misbehave("spin"))] * spinning):
                wait_for(client, job_id, lambda row: row.state is synk.JobState.RUNNING)
            return [stored_kill(client) for _ in range(count)]
        finally:
            client.shutdown(timedelta(0))
            thread.join()
            client.close()


def stored_kill(client: synk.Client) -> float:
    once = synk.InsertOptions(max_retries=0)
    late = client.insert("late", Misbehave("spin", TIMEOUTS_S["spin"]), once)
    following = client.insert("next", Clock())
    began = wait_for(client, following, lambda row: row.state.is_final).result
    over = wait_for(client, late, lambda row: row.state.is_final).checkpoint
    if not isinstance(began, float) or not isinstance(over, float):
        raise SystemExit(f"not a timeout and then a success: {over!r}, {began!r}")
    return (began - over) * 1000


def wait_for(client: synk.Client, job_id: int, fact: Callable[[synk.JobRow], bool]) -> synk.JobRow:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        row = client.get(job_id)
        if row is not None and fact(row):
            return row
        time.sleep(0.02)
    raise SystemExit(f"waited {PATIENCE_S:g} s for job {job_id}")


def silent() -> logging.Logger:
    """A logger for failures that are wanted."""
    logger = logging.getLogger("bench")
    logger.disabled = True
    return logger


# -- figures --------------------------------------------------------------------------------------

TIMEOUT_STEPS = {
    "the signal is sent": "decided",
    "it is seen dead": "dead",
    "its kin are dead": "buried",
    "the next one is born": "born",
}
DEATH_STEPS = {
    "it is seen dead": "dead",
    "its kin are dead": "buried",
    "the next one is born": "born",
    "the next one is ready": "ready",
}


def main() -> None:
    options = parsed()
    with running_bench(options.spinning) as bench, BareProcesses() as processes:
        timeouts = list(several(bench.time_out, tuple(TIMEOUTS_S), options.kills))
        deaths: list[Kill] = []
        bare: list[float] = []
        for kill in several(bench.kill_outside, DEATHS, options.kills):
            deaths.append(kill)
            bare.append(processes.kill_ms())
        nursery_mb = bench.nursery_mb
    stored = stored_kills(options.stored, options.spinning) if options.stored else []
    in_place = [kill for kill in timeouts if kill.was_in_place]
    p50_ms, p99_ms = TARGET_MS
    notes = [
        f"Meanwhile {options.spinning} other workers spin on {CPUS} CPUs.",
        f"Forked from a nursery of {nursery_mb:.0f} MB.",
        f"To reach: {p50_ms:g} ms (p50), {p99_ms:g} ms (p99), a stack on 99 %, no survivor.",
        f"Left out, since the job was late itself: {len(timeouts) - len(in_place)}.",
    ]
    report(list(lines(in_place, deaths, stored, bare)), notes, options)
    if sum(kill.survivors for kill in (*timeouts, *deaths)):
        raise SystemExit("something survived its kill")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=300, help="kills of each kind (300)")
    parser.add_argument("--stored", type=int, default=40, help="timeouts with PostgreSQL (40)")
    parser.add_argument(
        "--spinning", type=int, default=CPUS, help=f"other workers, which spin ({CPUS})"
    )
    parser.add_argument("--full", action="store_true", help="3000 of each kind, 300 stored")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if options.full:
        options.kills, options.stored = 3000, 300
    return options


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
