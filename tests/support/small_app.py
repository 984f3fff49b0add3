"""A small app as users have theirs, served by `synk start`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import synk
from support.supervising import DEADLINE_S, ended

APP = """
import os, synk
from dataclasses import dataclass

@dataclass
class Hello(synk.JobArgs, kind="hello"):
    pass

@synk.worker
def hello(job: synk.Job[Hello]) -> str:
    return "hello"

client = synk.Client(
    storage=synk.PostgresStorage(os.environ["SYNK_DATABASE_URL"]),
    queues={"default": synk.QueueConfig()},
    workers=[hello],
    processes=1,
)
"""
SYNK = str(Path(sys.executable).with_name("synk"))
INSERT = "import app; print(app.client.insert('x', app.Hello()))"


def environment(dsn: str) -> dict[str, str]:
    return {**os.environ, "SYNK_DATABASE_URL": dsn, "PYTHONUNBUFFERED": "1"}


def start(dsn: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SYNK, "start", *arguments],
        cwd=folder, env=environment(dsn), capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def job_of(dsn: str, folder: Path) -> int:
    """Inserts a job as the app's producers do."""
    done = subprocess.run(
        [sys.executable, "-c", INSERT],
        cwd=folder, env=environment(dsn), capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def served(dsn: str, *arguments: str, folder: Path, job_id: int) -> synk.JobRow:
    process = subprocess.Popen(
        [SYNK, "start", *arguments],
        cwd=folder, env=environment(dsn), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with synk.Client(storage=synk.PostgresStorage(dsn)) as client:
            return ended(client, job_id)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)
