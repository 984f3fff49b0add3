"""How tests have a job act, and see what it did."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import synk
from support.jobs.actors import WORKERS
from support.jobs.acts import Act
from support.supervising import ended, supervised, wait_until
from synk.runtime.ipc import linux


def insert(
    client: synk.Client,
    do: str,
    *,
    retries: int = 0,
    queue: str = "default",
    log: object = "",
    path: object = "",
    **fields: Any,
) -> int:
    args = Act(do, log=str(log), path=str(path), **fields)
    return client.insert(do, args, synk.InsertOptions(max_retries=retries, queue=queue))


def run(client: synk.Client, do: str, **options: Any) -> synk.JobRow:
    return ended(client, insert(client, do, **options))


def error_of(row: synk.JobRow) -> synk.AttemptError:
    """The record of the only attempt, which failed."""
    assert len(row.errors) == row.attempt == 1
    return row.errors[0]


def lines(log: Path) -> list[list[str]]:
    """What jobs noted, as words."""
    if not log.exists():
        return []
    return [line.split() for line in log.read_text().splitlines()]


def noted(log: Path, first: str) -> list[str]:
    """Waits for a line that begins so; returns its words."""

    def line() -> list[str] | None:
        return next((words for words in lines(log) if words[0] == first), None)

    return wait_until(line, what=f"{first} in {log}")


def begun(log: Path, do: str) -> int:
    """Waits until the job acts; returns the pid of its worker."""
    return int(noted(log, do)[2])


def is_gone(pid: int) -> bool:
    """Whether a process has ended; perhaps its parent has not noticed yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in ("Z", "X")


def fork_server_of(client_id: object) -> int:
    """The pid of the process that makes the workers of a supervisor."""

    def look() -> int | None:
        found = linux.tagged_processes(str(client_id))
        return next((pid for pid in found if _name(pid) == "synk-forkserver"), None)

    return wait_until(look, what="the fork server")


def workers_of(fork_server: int) -> list[int]:
    """The pids of the worker processes that there are."""
    return [pid for pid in linux.children(fork_server) if _name(pid).startswith("synk-worker")]


def spare_of(fork_server: int) -> list[int]:
    """The pid of the process that waits for a slot, if there is one at the moment."""
    return [pid for pid in linux.children(fork_server) if _name(pid) == "synk-spare"]


def both_workers_of(client_id: object) -> list[int]:
    """The pids of the two worker processes, once there are two."""
    fork_server = fork_server_of(client_id)
    return wait_until(lambda: len(found := workers_of(fork_server)) == 2 and found)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def acting(dsn: str, **options: Any) -> Iterator[synk.Client]:
    """A supervisor whose workers know how to act."""
    with supervised(dsn, workers=WORKERS, **options) as client:
        yield client
