"""What is set while supervisors run: rows that say of a scope, a queue say, what holds there.

Supervisors read all of them when their heartbeat tells of a revision that they do not know, or at
once where they hear of it; no claim and no insert reads any. What a row means is known by whom it
is for; here is only what all have in common.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Sequence


_OF_SUPERVISOR: Final = "supervisor:"


def of_supervisor(owner: UUID, scope: str) -> str:
    """Returns the *scope* on one supervisor alone; what is set there ends with that."""
    return f"{_OF_SUPERVISOR}{owner}:{scope}"


def owner_of(scope: str) -> UUID | None:
    """Returns whose a scope is; None: it is of all supervisors."""
    if not scope.startswith(_OF_SUPERVISOR):
        return None
    try:
        return UUID(scope.split(":")[1])
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the settings.

    Attributes:
        scope: what it is about, 1 to 255 characters: ``queue:reports``.
        name: what is set there, 1 to 127 characters: ``paused``.
        value: what it is set to, as JSON.
        changed_s: when, by the storage's clock, in seconds since 1970.
    """

    scope: str
    name: str
    value: Any
    changed_s: float = 0.0

    @property
    def changed_at(self) -> dt.datetime:
        """When it was set, by the storage's clock."""
        return dt.datetime.fromtimestamp(self.changed_s, dt.UTC)


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A setting that is to be made, or removed.

    Attributes:
        scope: see `Setting`.
        name: see `Setting`.
        value: what it is set to, as JSON; None: it is removed.
    """

    scope: str
    name: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings at one moment.

    Attributes:
        revision: how many changes there had been.
        rows: what was set, by scope and name.
        text: all of it as the storage wrote it. A revision alone may come twice, where a fail-over
            has lost some: by both it is known that what is in force is what the storage has.
    """

    revision: int = 0
    rows: Sequence[Setting] = ()
    text: str = "[]"


@dataclass(frozen=True, slots=True)
class Standing:
    """A supervisor that may still own jobs, and the settings that it has in force.

    Attributes:
        id: its client's id.
        host: the machine.
        pid: its process.
        queues: the names of the queues that it serves.
        revision: of the settings that it has in force.
        beat: how many times it has renewed its lease.
        ttl_s: for how many seconds each renewal holds.
        left_s: for how many more seconds the last one holds, by the storage's clock; below zero: it
            is over.
    """

    id: UUID
    host: str
    pid: int
    queues: Sequence[str]
    revision: int
    beat: int
    ttl_s: float
    left_s: float
