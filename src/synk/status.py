"""What supervisors say of themselves, for people who look from elsewhere."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - msgspec reads it
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from synk.row import Progress  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from synk.claim import Fence
    from synk.row import JobState

BACKLOG_COUNTED: Final = 100_000
"""How far jobs that wait are counted: beyond that the number says nothing new, and costs time."""

ALIVE_S: Final = 15.0
"""A supervisor that was not seen for longer than this is not taken to run."""


def client_id_of(owner: UUID) -> str:
    """Returns the id of a client, a ULID in its usual spelling, of an owner in the storage."""
    from ulid import ULID  # noqa: PLC0415 - loads only where a database is used

    return str(ULID.from_uuid(owner))


@dataclass(frozen=True, slots=True)
class JobNotes:
    """What a running job has noted, as JSON text; None: nothing new."""

    fence: Fence
    progress: str | None
    checkpoint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotStatus:
    """What one worker process does."""

    slot: int
    pid: int | None = None
    job_id: int | None = None
    """None: it has no job."""
    attempt: int = 0
    kind: str = ""
    name: str = ""
    queue: str = ""
    seconds: float = 0.0
    """Since the job began."""
    cpu_share: float | None = None
    """CPU time over wall time since the last look, of the worker process."""
    rss_bytes: int | None = None
    """The resident memory of the worker process, with what it shares."""
    progress: Progress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What is there to do; each number counts up to `BACKLOG_COUNTED` at the most."""

    available: dict[str, int]
    """By queue; queues without such jobs are absent."""
    running: dict[str, int]
    """By queue, likewise."""
    scheduled: int
    """In all queues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentError:
    """An attempt that failed a while ago."""

    job_id: int
    attempt: int
    kind: str
    error: str
    """Its first line."""
    seconds: float
    """How long ago."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What the storage answers to a renewal of a lease."""

    schema_version: int
    clock_s: float
    """The storage's clock, in seconds since 1970: only differences of it mean something."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A supervisor's lease, as another one finds it."""

    owner: UUID
    beat: int
    """How many times it was renewed."""
    is_over: bool
    """By the storage's clock."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """An attempt that was taken from a supervisor that will never act again."""

    job_id: int
    attempt: int
    state: JobState
    """What the job is now: available, or cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatus:
    """A supervisor, as it reports itself."""

    id: UUID
    host: str
    pid: int
    version: str
    processes: int
    queues: Sequence[str]
    slots: Sequence[SlotStatus] = ()
    errors: Sequence[RecentError] = ()
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRow:
    """A supervisor, as the storage knows it."""

    id: UUID
    host: str
    pid: int
    version: str
    processes: int
    queues: list[str]
    started_at: dt.datetime
    seen_at: dt.datetime
    stopped_at: dt.datetime | None
    unseen: dt.timedelta
    """How long ago it was seen, by the storage's clock."""
    slots: list[SlotStatus] = field(default_factory=list[SlotStatus])
    errors: list[RecentError] = field(default_factory=list[RecentError])

    @property
    def runs(self) -> bool:
        """Whether it was seen a moment ago and has not said that it stopped."""
        return self.stopped_at is None and self.unseen.total_seconds() < ALIVE_S
