"""`synk start` as a process of its own, with a log to read while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from support.supervising import DEADLINE_S, TESTS, wait_until

APP = """
import datetime, synk
from support.jobs import tasks
client = synk.Client(
    storage=synk.PostgresStorage(),
    queues={"default": synk.QueueConfig()},
    workers=tasks.WORKERS,
    processes=1,
)
"""
"""Serves the tasks on one worker process; tests append what they want changed."""

_MARK = "SYNK_TEST_MARK"


class StartedApp:
    """Runs an app module, and finds all that came of it by a mark in the environment."""

    def __init__(
        self,
        folder: Path,
        dsn: str,
        *,
        app: str = APP,
        prefix: Sequence[str] = (),
        output: int | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "app.py").write_text(app)
        self._log = folder / "stderr"
        self._mark = f"{_MARK}={uuid.uuid4()}"
        name, _, value = self._mark.partition("=")
        # As users have it: an unbuffered log hides who waits for whom at a full pipe.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "synk", "start", "app:client"],
                cwd=folder,
                env={**environment, "PYTHONPATH": path, "SYNK_DATABASE_URL": dsn, name: value},
                stdin=subprocess.DEVNULL,
                stdout=log if output is None else output,
                stderr=log if output is None else output,
                start_new_session=True,
            )

    def __enter__(self) -> StartedApp:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.log, what=f"{text!r} in the log:\n{self.log}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = DEADLINE_S) -> int:
        """Waits for its end; returns its exit status."""
        return self.process.wait(seconds)

    def processes(self) -> list[int]:
        """The pids of all that came of it and is alive, its own among them."""
        wanted = self._mark.encode()
        return [int(each.name) for each in Path("/proc").glob("[0-9]*") if wanted in _environ(each)]


def _environ(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
