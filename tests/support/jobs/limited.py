"""Handlers with limits, which notice by locks of files that more are at work than there may be.

The kernel takes a lock from a process that has died, however that was: so what is counted is
processes.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg

import synk

TWO = synk.Limit("two", key="args.key", running=2)
ONE = synk.Limit("one", key="args.key", running=1)
RATED = synk.Limit("rated", rate=(4, timedelta(seconds=1)))


@dataclass
class Two(synk.JobArgs, kind="two at once"):
    folder: str
    key: str
    seconds: float = 0.0
    then: str = ""


@dataclass
class One(synk.JobArgs, kind="one at once"):
    folder: str
    key: str
    seconds: float = 0.0
    then: str = ""


@dataclass
class Rated(synk.JobArgs, kind="some a second"):
    folder: str


@dataclass
class Free(synk.JobArgs, kind="free"):
    folder: str


@contextmanager
def counted(folder: Path, key: str, most: int) -> Iterator[None]:
    """Notes it in a file where more than *most* are here for *key*."""
    for number in range(most):
        file = os.open(folder / f"{key}.{number}", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        try:
            yield
        finally:
            os.close(file)
        return
    noted(folder, "too many", key)
    yield


def noted(folder: Path, name: str, line: object) -> None:
    with (folder / name).open("a") as file:
        file.write(f"{line}\n")


def _work(job: synk.Job[Two] | synk.Job[One], most: int) -> None:
    folder = Path(job.args.folder)
    with counted(folder, job.args.key, most):
        noted(folder, "begun", f"{job.args.key} {job.id}")
        if "dbname=" in job.args.then:
            with psycopg.connect(job.args.then) as connection:
                job.complete_tx(connection)
        time.sleep(job.args.seconds)
        if job.args.then == "die" and job.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if job.args.then == "fail" and job.attempt == 1:
            raise ValueError("as asked")
        noted(folder, "done", f"{job.args.key} {job.id}")


@synk.worker(limit=TWO)
def two(job: synk.Job[Two]) -> None:
    _work(job, 2)


@synk.worker(limit=ONE)
def one(job: synk.Job[One]) -> None:
    _work(job, 1)


@synk.worker(limit=RATED)
def rated(job: synk.Job[Rated]) -> None:
    noted(Path(job.args.folder), "begun", time.monotonic())


@synk.worker
def free(job: synk.Job[Free]) -> None:
    noted(Path(job.args.folder), "begun", f"free {job.id}")


WORKERS = [two, one, rated, free]
