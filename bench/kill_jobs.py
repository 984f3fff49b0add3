"""The jobs that are killed, and the one that runs next."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import synk

LONG_S = 3600.0

PRELOADED = ("kill",)
"""What the fork server imports besides this file: the script, whose docstring says why."""


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
