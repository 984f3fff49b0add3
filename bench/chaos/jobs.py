"""What the chaos has its supervisors run: jobs that behave, and jobs that do not.

Each run of a handler leaves lines in a file outside the database, each written at once and appended
whole: that it began, signs of life, that it came to its end. `synk start chaos.jobs:client` runs
this module; where its files are, it takes from the environment.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import synk
from chaos.bounds import EVERY_S, LIMITED, PAUSED, RUNNING, SINGLE, TICKS
from synk import telemetry
from synk.runtime.ipc import linux

FOLDER: Final = "CHAOS_FOLDER"
"""In the environment: where the files are."""

TTL_S: Final = 6.0
TIMEOUT_S: Final = 2.0
LONG_S: Final = (TTL_S, 4.0 * TTL_S)
"""Some jobs take so long that others may have them before they end."""

PROCESSES: Final = 4
TICK_S: Final = 0.05
RSS_MAX: Final = 200_000_000

WEIGHTS: Final = {
    "return_at_once": 60, "take_a_while": 18, "take_long": 6, "outlive_a_lease": 2, "fail": 6,
    "spin": 2, "hold_the_gil": 1, "crash": 1, "leave": 1, "kill_itself": 1, "start_processes": 2,
    "fork": 1, "print_much": 2, "return_much": 2, "eat_memory": 1, "snooze": 4, "retry_at": 1,
    "give_up": 1,
}  # fmt: skip
"""How often jobs do what, in relation to each other."""


@dataclass
class Act(synk.JobArgs, kind="act"):
    """Does one of the things in `WEIGHTS`."""

    how: str
    seconds: float = 0.0
    tenant: int = 0


def duration_s(how: str, chance: random.Random) -> float:
    """Chooses how long a job takes that takes any time."""
    match how:
        case "take_long":
            return chance.uniform(0.5, 0.9 * TIMEOUT_S)
        case "outlive_a_lease":
            return chance.uniform(*LONG_S)
        case _:
            return chance.uniform(0.0, 0.2)


def timeout_s(how: str) -> float:
    return TIMEOUT_S + (LONG_S[1] if how == "outlive_a_lease" else 0.0)


def note(file: str, text: str) -> None:
    fd = os.open(Path(os.environ[FOLDER]) / file, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


class Actor(synk.Worker[Act]):
    """Each method is something that jobs do."""

    def timeout(self, job: synk.Job[Act]) -> timedelta:
        return timedelta(seconds=timeout_s(job.args.how))

    def max_rss(self, job: synk.Job[Act]) -> int:  # noqa: ARG002 - the same for all
        return RSS_MAX

    def next_retry(self, job: synk.Job[Act], error: BaseException) -> datetime:  # noqa: ARG002 - the same for all
        return datetime.now(UTC) + timedelta(seconds=random.uniform(0.0, 1.0))

    def work(self, job: synk.Job[Act]) -> object:
        self._note(job, "began")
        result = getattr(self, job.args.how)(job)
        self._note(job, "ended")
        return result

    def _note(self, job: synk.Job[Act], what: str) -> None:
        claim = f"{job.id} {job.attempt} {job.fence.claim_seq} {os.environ[linux.TAG]}"
        note("executions", f"{what} {claim} {os.getpid()} {time.monotonic()}")

    def return_at_once(self, job: synk.Job[Act]) -> None:
        pass

    def take_a_while(self, job: synk.Job[Act]) -> None:
        deadline = time.monotonic() + job.args.seconds
        while time.monotonic() < deadline:
            time.sleep(TICK_S)
            self._note(job, "lives")

    def outlive_a_lease(self, job: synk.Job[Act]) -> None:
        self.take_a_while(job)

    def take_long(self, job: synk.Job[Act]) -> None:
        job.progress(1, 2)
        self.take_a_while(job)

    def fail(self, job: synk.Job[Act]) -> None:
        raise ValueError(f"as it was asked to, job {job.id}")

    def snooze(self, job: synk.Job[Act]) -> synk.Snooze | None:
        if job.snoozes >= 3:
            return None
        return synk.Snooze(timedelta(seconds=random.choice((0.0, 0.0, 0.5, 3.0))))

    def retry_at(self, job: synk.Job[Act]) -> None:
        raise synk.RetryAt(job.attempted_at + timedelta(seconds=1))

    def give_up(self, _job: synk.Job[Act]) -> None:
        raise synk.Cancel("as it was asked to")

    def spin(self, job: synk.Job[Act]) -> None:
        while True:
            self._note(job, "lives")
            deadline = time.monotonic() + TICK_S
            while time.monotonic() < deadline:
                pass

    def hold_the_gil(self, _job: synk.Job[Act]) -> None:
        while True:
            ctypes.PyDLL(None).pause()

    def crash(self, _job: synk.Job[Act]) -> None:
        ctypes.string_at(0)

    def leave(self, _job: synk.Job[Act]) -> None:
        os._exit(0)

    def kill_itself(self, _job: synk.Job[Act]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def start_processes(self, _job: synk.Job[Act]) -> None:
        subprocess.Popen(["/bin/sleep", "1000"])
        subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)

    def fork(self, _job: synk.Job[Act]) -> None:
        if os.fork() == 0:
            time.sleep(1000)
            os._exit(0)

    def print_much(self, _job: synk.Job[Act]) -> None:
        for number in range(10_000):
            print("a line like any other", number)

    def return_much(self, _job: synk.Job[Act]) -> str:
        return "x" * 100_000

    def eat_memory(self, job: synk.Job[Act]) -> None:
        held: list[bytes] = []
        while True:
            held.append(os.urandom(RSS_MAX // 10))
            time.sleep(TICK_S)
            self._note(job, "lives")


# -- the supervisors -----------------------------------------------------------------------------


def note_fact(fact: telemetry.Fact) -> None:
    """Notes how often what happened in a supervisor."""
    match fact:
        case telemetry.JobsReconciled():
            counts = {
                "sent again": fact.again,
                "ghosts": fact.ghosts,
                "strays": fact.strays,
                "given up": fact.gone,
            }
        case telemetry.OutcomeRefused():
            counts = {str(fact.answer): 1}
        case telemetry.LeaseRanOut() | telemetry.OutcomeReduced():
            counts = {type(fact).__name__: 1}
        case _:
            return
    note("facts", json.dumps(counts))


client = synk.Client(
    storage=synk.PostgresStorage(),
    queues={
        "default": synk.QueueConfig(max_workers=PROCESSES),
        LIMITED: synk.QueueConfig(limit=synk.Limit("tenant", key="args.tenant", running=RUNNING)),
        SINGLE: synk.QueueConfig(),
        PAUSED: synk.QueueConfig(),
    },
    workers=[Actor()],
    periodic=[
        synk.Periodic(TICKS, timedelta(seconds=EVERY_S), Act("return_at_once"), overlap="allow")
    ],
    processes=PROCESSES,
    drain_timeout=timedelta(seconds=3),
    cancel_grace=timedelta(seconds=1),
    lease_ttl=timedelta(seconds=TTL_S),
)
client.telemetry.subscribe(note_fact)
