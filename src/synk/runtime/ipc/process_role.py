"""What this process is to a supervisor: its fork server, one of its workers, or neither."""

from __future__ import annotations

from enum import StrEnum


class ProcessRole(StrEnum):
    """What this process is to a supervisor."""

    OUTSIDE = "outside"
    """The supervisor's own process, a producer, or any other program."""
    FORK_SERVER = "fork server"
    """It imports the handlers and forks the workers."""
    WORKER = "worker"
    """It runs jobs."""


role = ProcessRole.OUTSIDE
supervisor_pid = 0
"""In a fork server or a worker: who started it."""


def take(new: ProcessRole, supervisor: int) -> None:
    """Notes what this process has become."""
    global role, supervisor_pid  # noqa: PLW0603 - a fact of this process, set once
    role = new
    supervisor_pid = supervisor
