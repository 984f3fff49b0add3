"""Where this process stands: with a supervisor, in its nursery, or as one of its workers."""

from __future__ import annotations

from enum import StrEnum


class Place(StrEnum):
    """What this process is to a supervisor."""

    OUTSIDE = "outside"
    """The supervisor's own process, a producer, or any other program."""
    NURSERY = "nursery"
    """It imports the handlers and forks the workers."""
    WORKER = "worker"
    """It runs jobs."""


here = Place.OUTSIDE
supervisor_pid = 0
"""In a nursery or a worker: who started it."""


def move_to(place: Place, supervisor: int) -> None:
    """Notes what this process has become."""
    global here, supervisor_pid  # noqa: PLW0603 - a fact of this process, set once
    here = place
    supervisor_pid = supervisor
