"""What supervisors say of themselves, for people who look from elsewhere."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - msgspec reads it
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synk.row import Progress  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from synk.claim import Fence
    from synk.row import JobState

DEPTH_COUNTED: Final = 100_000
"""How far jobs that wait are counted: beyond that the number says nothing new, and costs time."""

KINDS_LOOKED_FOR: Final = 1_000
"""How many waiting jobs at the front of a queue, of each priority, are looked at for kinds that no
supervisor knows."""

KINDS_TOLD: Final = 100
"""How many such kinds are told at a time."""

ALIVE_S: Final = 15.0
"""A supervisor that was not seen for longer than this is not taken to run."""


@functools.lru_cache  # asked at each claim
def client_id_of(owner: UUID) -> str:
    """Returns the id of a client, a ULID in its usual spelling, of an owner in the storage."""
    from ulid import ULID  # noqa: PLC0415 - loads only where a database is used

    return str(ULID.from_uuid(owner))


def printable(text: str) -> str:
    """Returns *text*, which anybody may have written, as one line that a terminal can be given."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def nobody_serves(queue: str) -> str:
    """Says that no supervisor has *queue* among its own, on one line that can be printed."""
    return f"no supervisor serves queue {printable(queue)}"


def nobody_knows(kind: str, queue: str) -> str:
    """Says that nobody runs jobs of *kind* in *queue*, on one line that can be printed."""
    return f"no supervisor knows kind {printable(kind)} in queue {printable(queue)}"


@dataclass(frozen=True, slots=True)
class JobProgress:
    """What a running job has noted, as JSON text; None: nothing new.

    Attributes:
        fence: the attempt.
        progress: how far it is.
        checkpoint: where the next attempt may go on.
    """

    fence: Fence
    progress: str | None
    checkpoint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotStatus:
    """What one worker process does.

    Attributes:
        slot: the number of the place, from 0.
        pid: the process; None: there is none at this moment.
        job_id: the job that it runs; None: it has none.
        attempt: the number of the attempt, from 1.
        kind: the job's kind.
        name: the job's name.
        queue: the queue it came from.
        seconds: since the job began.
        cpu_share: CPU time over wall time since the last look, of the worker process: 1.0 is one
            CPU; None: not known yet.
        rss_bytes: the resident memory of the worker process, with what it shares; None: not known.
        progress: what the job noted last; None: nothing.
        cores: how many CPU cores the job weighs by its kind; None: that does not say.
        memory: how many bytes, likewise.
    """

    slot: int
    pid: int | None = None
    job_id: int | None = None
    attempt: int = 0
    kind: str = ""
    name: str = ""
    queue: str = ""
    seconds: float = 0.0
    cpu_share: float | None = None
    rss_bytes: int | None = None
    progress: Progress | None = None
    cores: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepths:
    """What is there to do; each number counts up to `DEPTH_COUNTED` at the most.

    Attributes:
        available: how many may be claimed now, by queue; queues without such jobs are absent.
        running: how many run, by queue, likewise.
        scheduled: how many wait for their time, in all queues.
    """

    available: dict[str, int]
    running: dict[str, int]
    scheduled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownKind:
    """A kind of jobs that wait in a queue, and that no supervisor of that queue has a worker for.

    Attributes:
        queue: the queue.
        kind: the kind.
        count: how many of them were found at the front of the queue.
        is_more: whether the look ended there, so that there may be more of them.
        job_id: the first of them.
    """

    queue: str
    kind: str
    count: int
    is_more: bool
    job_id: int

    def __str__(self) -> str:
        waiting = f"{self.count:,}{'+' if self.is_more else ''} job{'' if self.count == 1 else 's'}"
        return f"{nobody_knows(self.kind, self.queue)}: {waiting} since job {self.job_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentError:
    """An attempt that failed a while ago.

    Attributes:
        job_id: the job.
        attempt: the number of the attempt.
        kind: the job's kind.
        error: its first line.
        seconds: how long ago.
    """

    job_id: int
    attempt: int
    kind: str
    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Beat:
    """What the storage answers to a renewal of a lease.

    Attributes:
        schema_version: the number of the last migration.
        clock_s: the storage's clock, in seconds since 1970: only differences of it mean something.
        revision: how often settings were changed so far: with a new one, they are read again.
    """

    schema_version: int
    clock_s: float
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """A supervisor's lease, as another one finds it.

    Attributes:
        owner: the supervisor.
        beat: how many times it was renewed.
        is_over: whether its time has passed, by the storage's clock.
    """

    owner: UUID
    beat: int
    is_over: bool


@dataclass(frozen=True, slots=True)
class Rescued:
    """An attempt that was taken from a supervisor that will never act again.

    Attributes:
        job_id: the job.
        attempt: the number of the attempt that was lost.
        state: what the job is now: available, or cancelled.
    """

    job_id: int
    attempt: int
    state: JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatus:
    """A supervisor, as it reports itself.

    Attributes:
        id: its client's id.
        host: the machine.
        pid: the supervisor's process.
        version: synk's.
        processes: how many worker processes it has.
        queues: the names of the queues that it serves.
        slots: what each worker process does.
        errors: the last attempts that failed; at most 5.
        stopped: whether this is its last word.
        kinds: the kinds that it has workers for; None: it does not say.
    """

    id: UUID
    host: str
    pid: int
    version: str
    processes: int
    queues: Sequence[str]
    slots: Sequence[SlotStatus] = ()
    errors: Sequence[RecentError] = ()
    stopped: bool = False
    kinds: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRow(ClientStatus):
    """A supervisor, as the storage knows it: its last report, and when that was.

    Attributes:
        started_at: when it began.
        seen_at: when it reported last.
        stopped_at: when it said that it stops; None: it did not.
        unseen: how long ago it was seen, by the storage's clock.
    """

    started_at: dt.datetime
    seen_at: dt.datetime
    stopped_at: dt.datetime | None
    unseen: dt.timedelta

    @property
    def runs(self) -> bool:
        """Whether it was seen a moment ago and has not said that it stopped."""
        return not self.stopped and self.unseen.total_seconds() < ALIVE_S
