"""A job as it is stored: its row, and the words that the row is written in."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard, cast

from synk.errors import InvalidJob
from synk.failure import AttemptError
from synk.unique import UniqueScope

if TYPE_CHECKING:
    from collections.abc import Iterable

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

DEFAULT_QUEUE: Final = "default"

NAME_CHARACTERS_MAX: Final = 127
"""The longest name, queue or kind; the table's own limit."""

KEY_CHARACTERS_MAX: Final = 255
"""The longest idempotency key; the table's own limit."""


TAGS_MAX: Final = 100
"""The most tags of a job; the table's own limit."""

TAGS_BYTES_MAX: Final = 15_000
"""What they may weigh together, a little less than the table's own limit."""

FOR_EVER: Final = dt.timedelta(days=360_000)
"""A job whose `keep` is as long is not removed; the table's own limit, a thousand years."""

_HUGE: Final = 1e300
"""No share of a whole can be computed of a number beyond."""


class JobState(StrEnum):
    """Where a job stands. No other state exists.

    Attributes:
        AVAILABLE: may be claimed now.
        SCHEDULED: waits for its time: the one of its insert, or that of its next try.
        PENDING: waits for the jobs that it depends on, or for `Client.ready`.
        RUNNING: claimed by a supervisor.
        COMPLETED: final: an attempt succeeded.
        CANCELLED: final: it will not run; a `CancelReason` says why.
    """

    AVAILABLE = "available"
    SCHEDULED = "scheduled"
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job is over: it changes only when somebody retries or deletes it."""
        return self in (JobState.COMPLETED, JobState.CANCELLED)


class CancelReason(StrEnum):
    """Why a job is ``cancelled``.

    Attributes:
        REQUESTED: somebody cancelled it.
        FAILED: its last attempt failed.
        DEPENDENCY: a job that it depends on was cancelled or deleted.
        POISON: three attempts took their worker process with them, or lost their supervisor.
        EXPIRED: it had not begun when it was no longer wanted.
        HANDLER: its handler cancelled it.
    """

    REQUESTED = "requested"
    FAILED = "failed"
    DEPENDENCY = "dependency"
    POISON = "poison"
    EXPIRED = "expired"
    HANDLER = "handler"


class Priority(IntEnum):
    """What runs first: the lowest number.

    Attributes:
        CRITICAL: 1, before all others.
        HIGH: 2.
        MEDIUM: 3, the default.
        LOW: 4, when nothing else is due.
    """

    CRITICAL = 1
    HIGH = 2
    MEDIUM = 3
    LOW = 4


class Change(StrEnum):
    """What `Client.cancel`, `retry`, `delete` or `ready` did.

    Attributes:
        APPLIED: done, and stored.
        REQUESTED: the job is running: its supervisor was told, and ends it within moments.
        TAKEN: done, and stored, but the job may still run: no supervisor of synk runs it (a worker
            of the Go package does), so nobody could be told. What becomes of that attempt does not
            count.
        BLOCKED: nothing changed: a job that it depends on was cancelled or deleted. Retry that
            first.
        NOT_UNIQUE: nothing changed: the job was over, and another one is in its unique scope by
            now. `JobRow.unique` says which.
        REFUSED: nothing changed: the job's state does not allow it.
        GONE: there is no such job.
    """

    APPLIED = "applied"
    REQUESTED = "requested"
    TAKEN = "taken"
    BLOCKED = "blocked"
    NOT_UNIQUE = "not_unique"
    REFUSED = "refused"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, as its handler noted it.

    Attributes:
        done: how much is done, in the handler's own unit.
        total: how much there is in all; None: not known.
        note: a few words, at most 200 characters; empty by default.
    """

    done: float
    total: float | None = None
    note: str = ""

    @classmethod
    def from_json(cls, text: str | None) -> Progress | None:
        """Returns what `Job.progress` noted, of its JSON *text*; None of nothing.

        Does not raise, whoever wrote it: what is no number is 0, or not known.
        """
        try:
            given: Any = json.loads(text or "null")
        except (ValueError, RecursionError):
            return None
        if not isinstance(given, dict):
            return None
        noted = cast("dict[str, object]", given)
        note = noted.get("note")
        return cls(
            _number(noted.get("done")) or 0,
            _number(noted.get("total")),
            note if isinstance(note, str) else "",
        )

    @property
    def share(self) -> float | None:
        """From 0 to 1; None if the total is not known."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else None


def _number(value: object) -> int | float | None:
    """Returns a number that can be computed with; None of anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _HUGE:
        return value
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """A row of ``synk.job`` in a list: all of it but what can be long.

    Attributes:
        id: its number, from 1 on; never used again.
        name: what people read in lists, as it was given at the insert.
        kind: what ties it to its worker.
        queue: the queue that it waits in.
        state: where it stands.
        priority: what runs first.
        attempt: how many times it was claimed; never decreases.
        max_attempts: how many charged attempts it has in all.
        uncounted: attempts that are not charged: never started, or ended by an orderly shutdown.
        created_at: when it was inserted; this and all other times by the database's clock, with a
            timezone.
        scheduled_at: not before this time: as it was inserted, or that of the next try.
        attempted_at: when the last attempt was claimed; None: none was.
        finalized_at: when it was completed or cancelled; None: it is not over.
        cancel_reason: why it is cancelled; None: it is not.
        cancel_requested_at: when somebody asked to cancel it; None: nobody did.
        duration: wall time of the last attempt; None: none has ended.
        cpu_time: CPU time (user and system) of the last attempt, with that of the processes it
            waited for; None: none has ended.
        system_time: the part of it that the kernel took; None for attempts below 0.2 ms.
        peak_rss_bytes: the largest resident memory during the last attempt; None for attempts below
            0.2 ms.
        pid: the worker process of the last attempt; None: not known.
        host: the host of the last attempt, if its supervisor is still on record.
        crashes: attempts that took their worker process with them; three are too many.
        lost: attempts whose supervisor was lost; three are too many.
        idempotency_key: the key that only this job has; None: it has none.
        tags: the words by which it is found; none by default.
        snoozes: how often its handler has it run again after a while, see `synk.Snooze`; 0 by
            default.
    """

    id: int
    name: str
    kind: str
    queue: str
    state: JobState
    priority: Priority
    attempt: int
    max_attempts: int
    uncounted: int
    created_at: dt.datetime
    scheduled_at: dt.datetime
    attempted_at: dt.datetime | None
    finalized_at: dt.datetime | None
    cancel_reason: CancelReason | None
    cancel_requested_at: dt.datetime | None
    duration: dt.timedelta | None
    cpu_time: dt.timedelta | None
    system_time: dt.timedelta | None
    peak_rss_bytes: int | None
    pid: int | None
    host: str | None
    crashes: int
    lost: int
    idempotency_key: str | None
    tags: list[str]
    snoozes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow(ListedJob):
    """One row of ``synk.job``, as `Client.get` gives it: what `ListedJob` has, and all else.

    Attributes:
        args: as they were inserted; their JSON text if that is nothing that Python can read.
        attempted_by: the ids of the clients that claimed it, in order; the last 100.
        depends_on: the ids of the jobs that must complete first.
        waiting_on: those of `depends_on` that are not completed yet.
        errors: the last failed attempts, oldest first; at most 20.
        result: what the last attempt returned, if it completed; at most 64 KiB of JSON.
        output: the end of what the last attempt wrote to stdout and stderr, at most 16 KiB, if it
            did not fail: failed attempts have theirs in `errors`.
        progress: what a handler noted last with `Job.progress`; None: nothing.
        checkpoint: what a handler noted last with `Job.checkpoint`; None: nothing.
        meta: what was given with the insert, besides the arguments; empty by default.
        start_before: if no attempt that counts has begun by then, it expires; None: it does not.
        keep: for how long it is kept when it is over, `timedelta.max` for ever; None: the cleaner's
            retention.
        unique: which scope it was inserted into, and who is in that now; None: it is not unique.
    """

    args: Json
    attempted_by: list[str]
    depends_on: list[int]
    waiting_on: list[int]
    errors: list[AttemptError]
    result: Json
    output: str
    progress: Progress | None
    checkpoint: Json
    meta: dict[str, Json]
    start_before: dt.datetime | None
    keep: dt.timedelta | None
    unique: UniqueScope | None


class JobList(list[ListedJob]):
    """Jobs that `Inspection.jobs` has found.

    Args:
        rows: the rows, the newest first.

    Attributes:
        searched: how many jobs were looked at, the newest or those that ended last, where there are
            more that may match; None, the default: none was left out.
    """

    def __init__(self, rows: Iterable[ListedJob], searched: int | None = None) -> None:
        super().__init__(rows)
        self.searched = searched


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSummary:
    """What the jobs of one kind took.

    Attributes:
        kind: the kind.
        completed: how many are completed.
        cancelled: how many are cancelled, for whatever reason.
        failed: how many of those are it because their attempts failed, or killed their workers.
        unfinished: how many are neither completed nor cancelled.
        errors: failed attempts that are on record.
        duration_p50: wall time of the last attempts, the median; None: none is on record.
        duration_p95: likewise, the time that 19 of 20 kept under.
        duration_max: likewise, the longest.
        cpu_time: CPU time of the last attempts of all of them together.
        peak_rss_bytes: the largest of a last attempt; None: none is on record.
    """

    kind: str
    completed: int
    cancelled: int
    failed: int
    unfinished: int
    errors: int
    duration_p50: dt.timedelta | None
    duration_p95: dt.timedelta | None
    duration_max: dt.timedelta | None
    cpu_time: dt.timedelta
    peak_rss_bytes: int | None


def check_label(field_name: str, value: object, *, most: int = NAME_CHARACTERS_MAX) -> str:
    """Returns *value* if it can be a name, queue, kind or key.

    Raises:
        InvalidJob: not a string, empty, over *most* characters, or with a control character.
    """
    if not isinstance(value, str):
        raise InvalidJob(field_name, value, "must be a string")
    if value.isprintable() and not value.isspace() and 0 < len(value) <= most:
        return value
    if not value.strip():
        raise InvalidJob(field_name, value, "must not be empty")
    if len(value) > most:
        raise InvalidJob(field_name, value, f"has {len(value)} characters, at most {most}")
    raise InvalidJob(field_name, value, "must be printable text, without control characters")


def check_tags(value: object, field_name: str = "tags") -> tuple[str, ...]:
    """Returns *value* if it can be the tags of a job, each once.

    Raises:
        InvalidJob: no list of strings, one of them cannot be a tag, or over 100 of them.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
        raise InvalidJob(field_name, value, "must be a list of strings")
    tags = cast("Collection[object]", value)
    checked = tuple(dict.fromkeys(check_label(field_name, tag) for tag in tags))
    if len(checked) > TAGS_MAX:
        raise InvalidJob(field_name, tags, f"has {len(checked)} tags, at most {TAGS_MAX}")
    weight = sum(len(tag.encode()) + 4 for tag in checked)
    if weight > TAGS_BYTES_MAX:
        raise InvalidJob(field_name, tags, f"has {weight} bytes, at most {TAGS_BYTES_MAX}")
    return checked


def check_aware(field_name: str, value: object) -> dt.datetime:
    """Returns *value* if it is a timezone-aware datetime.

    Raises:
        InvalidJob: it is not a datetime, or a naive one.
    """
    if not isinstance(value, dt.datetime):
        raise InvalidJob(field_name, value, "must be a datetime")
    if value.utcoffset() is None:
        raise InvalidJob(
            field_name, value, "is naive; give it a timezone, as in datetime.now(timezone.utc)"
        )
    return value


def check_id(field_name: str, value: object) -> int:
    """Returns *value* if it can be a job's id.

    Raises:
        InvalidJob: it is not a whole number from 1 to 2^63 - 1.
    """
    if not is_whole(value) or not 1 <= value < 2**63:
        raise InvalidJob(field_name, value, "must be the id of a job, a whole number from 1 on")
    return int(value)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)
