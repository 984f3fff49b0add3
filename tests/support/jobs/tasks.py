"""Jobs for tests of what happens around them: they note what they do in a file."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import synk
from support.jobs import handlers


@dataclass
class Task(synk.JobArgs, kind="task"):
    """Notes ``begun TEXT``, does what *how* says, and notes ``done TEXT``."""

    how: str = "rest"
    log: str = ""
    text: str = "x"
    seconds: float = 0.0
    timeout_s: float = 600.0


class Doer(synk.Worker[Task]):
    def timeout(self, job: synk.Job[Task]) -> timedelta | None:
        return timedelta(seconds=job.args.timeout_s)

    def next_retry(self, job: synk.Job[Task], error: BaseException) -> datetime | None:
        return datetime.now(timezone.utc) + timedelta(milliseconds=50)

    def work(self, job: synk.Job[Task]) -> object | None:
        task = job.args
        if task.log:
            handlers.note(task.log, f"begun {task.text}")
        result = getattr(self, task.how)(task)
        if task.log:
            handlers.note(task.log, f"done {task.text}")
        return result

    def rest(self, task: Task) -> None:
        time.sleep(task.seconds)

    def tell(self, task: Task) -> str:
        """Leaves much behind."""
        time.sleep(task.seconds)
        return "r" * 60_000

    def fail(self, task: Task) -> None:
        raise RuntimeError("as asked")

    def die(self, task: Task) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hold_gil(self, task: Task) -> None:
        ctypes.PyDLL(None).pause()

    def child(self, task: Task) -> None:
        subprocess.run(["sleep", "1000"], check=True)

    def escaped(self, task: Task) -> None:
        """Leaves a process in a session of its own, whose parent is gone."""
        command = "setsid sleep 1000 & exec sleep 1000"
        subprocess.run(["sh", "-c", command], check=True)

    def descriptors(self, task: Task) -> object:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return {link.name: str(link.readlink()) for link in links}


WORKERS = [Doer(), *handlers.WORKERS]


def notes(log: Path, word: str) -> list[str]:
    """Returns the texts of the notes that begin with *word*, in their order."""
    if not log.exists():
        return []
    lines = [line.split() for line in log.read_text().splitlines()]
    return [line[1] for line in lines if line[0] == word]
