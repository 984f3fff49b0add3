"""Running a supervisor in a test: in a thread of this process, or as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import synk
from support.jobs import handlers
from synk.runtime.ipc import linux

DEADLINE_S = 30.0
TESTS = Path(__file__).parents[1]


def wait_until(fact: Callable[[], Any], *, what: str = "", seconds: float = DEADLINE_S) -> Any:
    """Looks until *fact* gives something true; fails when that takes too long."""
    deadline = time.monotonic() + seconds
    while not (value := fact()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what or fact}"
        time.sleep(0.01)
    return value


def program_env(**variables: str) -> dict[str, str]:
    """The environment of a program that can import what the tests can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), **variables}


def steady(value: Callable[[], object], seconds: float = 1.0) -> Callable[[], bool]:
    """Returns what says whether *value* has been the same for so many seconds."""
    seen, since = None, time.monotonic()

    def is_steady() -> bool:
        nonlocal seen, since
        if (current := value()) != seen:
            seen, since = current, time.monotonic()
        return time.monotonic() - since > seconds

    return is_steady


def ended(client: synk.Client, job_id: int) -> synk.JobRow:
    """Waits for the job's end; returns its row."""

    def row() -> synk.JobRow | None:
        found = client.get(job_id)
        return found if found is not None and found.state.is_final else None

    return wait_until(row, what=f"the end of job {job_id}")


def is_running(client: synk.Client, job_id: int) -> bool:
    row = client.get(job_id)
    return row is not None and row.state is synk.JobState.RUNNING


def left_in_shared_memory() -> set[str]:
    """The names in /dev/shm of what no living process has mapped: whose it was is gone."""
    names = {file.name for file in Path("/dev/shm").iterdir() if file.is_file()}  # noqa: S108 - a look
    mapped: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            lines = (process / "maps").read_text().splitlines()
            mapped.update(line.rpartition("/dev/shm/")[2] for line in lines if "/dev/shm/" in line)  # noqa: S108 - as above
    # A server of the database has some that it does not map all the time.
    return {name for name in names - mapped if not name.startswith("PostgreSQL")}


@contextmanager
def opened(dsn: str) -> Iterator[synk.PostgresStorage]:
    storage = synk.PostgresStorage(dsn)
    yield storage
    storage.close()


def make_client(dsn: str, **options: Any) -> synk.Client:
    options.setdefault("queues", {"default": synk.QueueConfig()})
    options.setdefault("processes", 2)
    options.setdefault("workers", handlers.WORKERS)
    options.setdefault("storage", synk.PostgresStorage(dsn))
    return synk.Client(**options)


@contextmanager
def supervised(dsn: str, **options: Any) -> Iterator[synk.Client]:
    """A client that runs in a thread; at the end it is shut down, and nothing of it is left."""
    client = make_client(dsn, **options)
    tag = str(client.id)
    problems: list[BaseException] = []

    def run() -> None:
        try:
            client.start()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run, name="supervisor")
    thread.start()
    try:
        yield client
    finally:
        client.shutdown(timedelta(0))
        thread.join(DEADLINE_S)
        client.storage.close()
        assert not thread.is_alive(), "the supervisor did not stop"
    if problems:
        raise problems[0]
    assert linux.tagged_processes(tag) == []


SCRIPT = """
import logging, sys
import synk
from support.jobs import handlers
from support.supervising import make_client
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
if __name__ == "__main__":
    client = make_client(sys.argv[1], **eval(sys.argv[2]))
    print(client.id, flush=True)
    client.start()
    print("returned", flush=True)
"""


class SupervisorProcess:
    """A supervisor as a process of its own, to be sent signals."""

    def __init__(
        self,
        dsn: str,
        options: str = "{}",
        script: str = SCRIPT,
        *,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", script, dsn, options],
            env=program_env(**(environment or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.tag = self.process.stdout.readline().strip()

    def __enter__(self) -> SupervisorProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = DEADLINE_S) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err

    def processes(self) -> list[int]:
        """The pids of all that the supervisor started."""
        return linux.tagged_processes(self.tag)
