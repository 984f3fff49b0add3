"""What goes into the pool (events) and what comes out of it (commands): frozen records.

The shell turns the world into events and commands into deeds; it takes no decision of its own.
Times are seconds of the monotonic clock, a slot is named by its number.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TypeAlias

import msgspec

from synk.claim import ClaimedJob, Fence
from synk.limit import Permit
from synk.retry import EndedAttempt


class Reply(msgspec.Struct, array_like=True, frozen=True):
    """What a worker said of one job beyond that it is done: a result, or how it failed."""

    result: str | None = None
    """JSON text."""
    error: str | None = None
    """An AttemptError as JSON text; None: the job succeeded."""
    retry_at: dt.datetime | None = None
    """What the handler asked for, or its worker's `next_retry`."""
    cancelled: bool = False
    """It ended because it was asked to: the error says so."""
    progress: str | None = None
    checkpoint: str | None = None
    """What the job noted last, as JSON text."""
    is_final: bool = False
    """It failed in a way that another try would only repeat."""
    output: str = ""
    """The end of what it wrote to stdout and stderr: its supervisor adds that."""
    snooze_s: float | None = None
    """For how long it snoozes; None: it does not."""
    snoozes: int = 0
    """How often it has, this time included."""
    gave_up: bool = False
    """Its handler cancelled it: the error says why."""


Measure: TypeAlias = Sequence[int]
"""Of one job: wall time, CPU time, the part of that in the kernel, all in microseconds, and the
peak of the resident memory in bytes. The last two are 0 for jobs too short to ask."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker has done since the last report, as read from its status page and its channel.

    Jobs are numbered by the order in which they were sent to this worker process, from 1.
    """

    done: int = 0
    """The number of the last job that is done; all before it are done too."""
    measures: Sequence[Measure] = ()
    """For each job done since the last report."""
    replies: dict[int, Reply] = field(default_factory=dict[int, Reply])
    """By job number; a job that is done without a reply succeeded and returned None."""
    running: int = 0
    """The number of the job that runs now, 0 for none."""
    started_s: float = 0.0
    """When it started, on the monotonic clock."""
    timeout_s: float | None = None
    """Its timeout, if its worker named one; None: the queue's."""
    soft_s: float | None = None
    """When it is to be told that its time runs out, if its worker named that."""
    rss_max: int | None = None
    """The memory that it may use in bytes, if its worker named a limit; None: the queue's."""


class KillReason(StrEnum):
    """Why the pool has a worker process killed."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    MEMORY = "memory"
    LEASE = "lease"
    """The supervisor could not renew its lease: others may take its jobs."""
    DISOWNED = "disowned"
    """The job is not this supervisor's any more."""
    SHUTDOWN = "shutdown"
    START = "start"
    DEAF = "deaf"
    """It did not begin what it was given."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker process ended."""

    code: int | None
    """The exit status; negative: the number of the signal; None: it could not be learned."""
    signal: str | None = None
    """The signal's name."""
    pid: int | None = None
    host: str | None = None
    supervisor: str | None = None
    stack: str = ""
    """What faulthandler wrote, at a kill or at a fatal signal."""
    problem: str = ""
    """What the worker itself reported, if it could not start or wants to be replaced."""
    usage: tuple[int, int, int] = (0, 0, 0)
    """What the job used that ran: as a `Measure`, but for the wall time."""
    output: str = ""
    progress: str | None = None
    checkpoint: str | None = None
    """What the job that ran wrote and noted."""
    by_kernel: bool = False
    """The kernel killed something in this control group for want of memory since the last look."""
    engine_failed: bool = False
    """It ended because the process that makes workers did: no job is to blame."""


# -- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claimed:
    """The storage gave these jobs to this supervisor."""

    jobs: Sequence[ClaimedJob]
    keys: Mapping[int, str] = field(default_factory=dict[int, str])
    """By the ids of those that need a permit: the key that it is for."""
    permits: Sequence[Permit] = ()
    """What was taken for them, beside what the supervisor has."""
    none_of: Sequence[tuple[str, str]] = ()
    """Queues and kinds of which there are no more that could be claimed."""
    asked_at: float | None = None
    """When the storage was asked: from then on `start_before` is counted; None: now."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The slot's process has imported everything and takes jobs."""

    slot: int
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """News from a worker."""

    slot: int
    report: Report


@dataclass(frozen=True, slots=True)
class Recalled:
    """Jobs sent to the slot but not begun were taken back: the last *taken* of them.

    From then on its worker cannot begin another job: the report, taken afterwards, is exact.
    """

    slot: int
    report: Report
    taken: int


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """The slot's process is gone; what it had not begun is taken back."""

    slot: int
    report: Report
    taken: int
    exit: Exit


@dataclass(frozen=True, slots=True)
class Sampled:
    """How much memory a worker uses."""

    slot: int
    number: int
    """The job that ran while it was measured, 0 for none."""
    own_bytes: int
    """Of the worker process alone."""
    tree_bytes: int
    """Of the worker and all that the job started."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants these attempts cancelled; those that are not held here are ignored."""

    fences: Sequence[Fence]


@dataclass(frozen=True, slots=True)
class LeaseChanged:
    """The lease could not be renewed in time: nothing may run until it is. Or now it is."""

    is_over: bool


@dataclass(frozen=True, slots=True)
class Disowned:
    """These attempts are not this supervisor's any more, by the storage's word."""

    fences: Sequence[Fence]


@dataclass(frozen=True, slots=True)
class QueuesSet:
    """What somebody wants of the queues while they are served."""

    paused: frozenset[str]
    """Of these nothing begins; what runs goes on."""
    max_workers: Mapping[str, int]
    """How many jobs of each may run at once."""


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """Stop: nothing new begins, what runs may finish until *deadline*."""

    deadline: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event: TypeAlias = (
    Claimed
    | WorkerReady
    | Reported
    | Recalled
    | WorkerExited
    | Sampled
    | CancelRequested
    | LeaseChanged
    | Disowned
    | QueuesSet
    | DrainRequested
    | Tick
)

# -- commands -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process for the slot."""

    slot: int


@dataclass(frozen=True, slots=True)
class Send:
    """Give jobs to the slot's worker; *first* is the number of the first of them."""

    slot: int
    first: int
    jobs: Sequence[ClaimedJob]
    cpus: tuple[int, ...] = ()
    """Those that they are to run on; empty: what their queues say."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Take back what the slot's worker has not begun, then answer with `Recalled`."""

    slot: int


class Request(IntEnum):
    """What a running job can be asked."""

    SOFT_TIMEOUT = 0
    """Its soft time limit is over."""
    CANCEL = 1
    """Somebody wants it cancelled."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the job with this number, and no other, to end by itself."""

    slot: int
    number: int
    request: Request


@dataclass(frozen=True, slots=True)
class Kill:
    """End the slot's process and all that it started, with a stack if there is one to get."""

    slot: int
    reason: KillReason


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Let the slot's process end by itself: it has no job."""

    slot: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Workers cannot be started at all; *problem* is what the last one reported."""

    problem: str


@dataclass(frozen=True, slots=True)
class Settle:
    """These attempts are over; see to it that the storage learns of it.

    Plain successes, the many, are only (job, measure, pid).
    """

    successes: Sequence[tuple[ClaimedJob, Measure, int | None]] = ()
    ended: Sequence[EndedAttempt] = ()


Command: TypeAlias = Spawn | Send | Recall | Ask | Kill | Dismiss | Settle | GiveUp
