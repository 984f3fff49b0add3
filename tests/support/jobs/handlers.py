"""Handlers for tests with real processes, well-behaved and otherwise."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import ClassVar

import msgspec

import synk

UNPICKLABLE = threading.Lock()


@dataclass
class Noop(synk.JobArgs, kind="noop"):
    n: int = 0


@dataclass
class Write(synk.JobArgs, kind="write"):
    """Appends a line to a file, outside the database."""

    path: str
    text: str = "x"
    sleep_s: float = 0.0


@dataclass
class Misbehave(synk.JobArgs, kind="misbehave"):
    how: str
    path: str = ""


@dataclass
class Typed(synk.JobArgs, kind="typed"):
    count: int
    tags: list[str] = field(default_factory=list)


@dataclass
class Clock(synk.JobArgs, kind="clock"):
    """Takes a while, and returns when it began."""

    sleep_s: float


@dataclass
class Marks(synk.JobArgs, kind="marks"):
    """Returns the job's tags and meta."""


class StructArgs(msgspec.Struct):
    kind: ClassVar[str] = "struct"
    path: str


class CustomError(Exception):
    def __init__(self, *, code: int, lock: object) -> None:
        super().__init__(f"code {code}")
        self.lock = lock


def note(path: str, text: str) -> None:
    fd = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


@synk.worker
def noop(job: synk.Job[Noop]) -> None:
    pass


@synk.worker
def write(job: synk.Job[Write]) -> None:
    note(job.args.path, job.args.text)
    time.sleep(job.args.sleep_s)


@synk.worker
def clock(job: synk.Job[Clock]) -> float:
    began = time.time()  # noqa: TID251 - to be compared with the database's, on the same machine
    time.sleep(job.args.sleep_s)
    return began


@synk.worker
def marks(job: synk.Job[Marks]) -> list[object]:
    return [job.tags, job.meta]


@synk.worker
def typed(job: synk.Job[Typed]) -> dict[str, object]:
    return {"double": job.args.count * 2, "tags": job.args.tags, "attempt": job.attempt}


@synk.worker
def struct(job: synk.Job[StructArgs]) -> str:
    return job.args.path


def inner_function(reason: str) -> None:
    raise LookupError(reason)


class Misbehaver(synk.Worker[Misbehave]):
    def timeout(self, job: synk.Job[Misbehave]) -> timedelta | None:
        return timedelta(seconds=600 if job.args.how.startswith("long") else 0.5)

    def next_retry(self, job: synk.Job[Misbehave], error: BaseException) -> datetime | None:
        if job.args.how == "second_attempt":
            return datetime.now(timezone.utc) + timedelta(milliseconds=50)
        return None

    def work(self, job: synk.Job[Misbehave]) -> object | None:
        if job.args.path:
            note(job.args.path, f"{job.args.how} {job.attempt} {os.getpid()}")
        return getattr(self, job.args.how)(job)

    def raise_chain(self, job: synk.Job[Misbehave]) -> None:
        try:
            inner_function("the root")
        except LookupError as error:
            error.add_note("a note on it")
            raise ValueError("the top") from error

    def raise_group(self, job: synk.Job[Misbehave]) -> None:
        raise ExceptionGroup("both", [ValueError("one"), TypeError("two")])

    def raise_custom(self, job: synk.Job[Misbehave]) -> None:
        raise CustomError(code=7, lock=UNPICKLABLE)

    def second_attempt(self, job: synk.Job[Misbehave]) -> str:
        if job.attempt == 1:
            raise RuntimeError("not yet")
        return job.errors[0].error

    def spin(self, job: synk.Job[Misbehave]) -> None:
        while True:
            pass

    def long_spin(self, job: synk.Job[Misbehave]) -> None:
        self.spin(job)

    def long_sleep(self, job: synk.Job[Misbehave]) -> None:
        time.sleep(1000)

    def long_child(self, job: synk.Job[Misbehave]) -> None:
        child = subprocess.Popen(["sleep", "1000"])
        note(job.args.path, f"started={child.pid}")
        child.wait()

    def segv(self, job: synk.Job[Misbehave]) -> None:
        ctypes.string_at(0)

    def kill_self(self, job: synk.Job[Misbehave]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def os_exit(self, job: synk.Job[Misbehave]) -> None:
        os._exit(0)

    def ends_itself(self, job: synk.Job[Misbehave]) -> None:
        job.complete_tx(None)

    def huge_result(self, job: synk.Job[Misbehave]) -> object:
        return "x" * 1_000_000


@dataclass
class Slow(synk.JobArgs, kind="slow"):
    """Notes its progress until a file is there; with *fails*, it fails then."""

    gate: str
    fails: bool = False
    code: str = "python"


def wait_for_the_gate(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


@synk.worker(timeout=timedelta(minutes=2))
def slow(job: synk.Job[Slow]) -> object:
    job.progress(3, 12, "a third")
    job.checkpoint({"page": 3})
    if job.args.code == "c":
        ctypes.PyDLL(None).sleep(1000)
    wait_for_the_gate(job.args.gate)
    if job.args.fails:
        raise ValueError("the gate is open")
    return job.last_checkpoint


@dataclass
class Once(synk.JobArgs, kind="once"):
    """Takes its time at the first attempt only; each attempt notes its number."""

    path: str
    sleep_s: float = 1000.0


@synk.worker(timeout=timedelta(minutes=20))
def once(job: synk.Job[Once]) -> None:
    note(job.args.path, str(job.attempt))
    if job.attempt == 1:
        time.sleep(job.args.sleep_s)


WORKERS = [noop, write, clock, marks, typed, struct, slow, once, Misbehaver()]
