"""The nouns of synk.

Glossary, used the same way in Python, SQL, the command line and the docs:

    job          a row of ``synk.job``: a kind, its arguments, and what became of it
    kind         the name that ties a job to the worker that can run it
    queue        a named line that jobs wait in; each has its own caps and limits
    worker       the object with the user's ``work`` method (or the decorated function) for one kind
    client       the object that inserts; with queues and workers, it can also run: a supervisor
    supervisor   the process that claims jobs and hands them to its worker processes
    slot         one place for a worker process; the process is replaced when it dies
    attempt      one claim of a job; numbered from 1, never reused
    claim        take available jobs for this supervisor: state ``running``, one attempt more
    fence        (id, attempt, owner, claim_seq): names one claim; stale outcomes are refused
    outcome      what became of an attempt, as it is to be written
    acknowledge  (ack) write an outcome into the row, if the fence still holds
    charged      an attempt counts against ``max_attempts`` unless it never really ran
    final        ``completed`` or ``cancelled``: such a job changes only on request
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeAlias, TypeGuard, TypeVar

import msgspec

from synk.attempt import Attempt, checkpoint_text, progress_text
from synk.errors import InvalidJob, LeaseLost
from synk.failure import AttemptError

if TYPE_CHECKING:
    from collections.abc import Iterable

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

NAME_CHARACTERS_MAX: Final = 127
"""The longest name, queue or kind; the table's own limit."""

KEY_CHARACTERS_MAX: Final = 255
"""The longest idempotency key; the table's own limit."""

ARGS_BYTES_MAX: Final = 1024 * 1024
"""The largest encoded arguments: a job is a message, files belong elsewhere."""

DEFAULT_QUEUE: Final = "default"
DEFAULT_MAX_RETRIES: Final = 6
_SMALLEST_ID: Final = 1
_MAX_RETRIES_MAX: Final = 1_000_000


class JobState(StrEnum):
    """Where a job stands. No other state exists."""

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
    """Why a job is ``cancelled``."""

    REQUESTED = "requested"
    FAILED = "failed"
    DEPENDENCY = "dependency"
    POISON = "poison"


class Priority(IntEnum):
    """What runs first: the lowest number."""

    CRITICAL = 1
    HIGH = 2
    MEDIUM = 3
    LOW = 4


class Change(StrEnum):
    """What `Client.cancel`, `retry`, `delete` or `ready` did."""

    APPLIED = "applied"
    """Done, and stored."""
    REQUESTED = "requested"
    """The job is running: its supervisor was told, and ends it within moments."""
    REFUSED = "refused"
    """Nothing changed: the job's state does not allow it."""
    GONE = "gone"
    """There is no such job."""


class AckAnswer(StrEnum):
    """What the storage did with an outcome. Each of them settles the matter except ``locked``."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    """This very outcome was applied before: the first answer was lost on the way."""
    FENCED = "fenced"
    """The attempt is not this supervisor's any more; the row was left alone."""
    GONE = "gone"
    LOCKED = "locked"
    """Somebody holds the lock of the row, or of one that waits for it: offer the outcome again."""


class JobArgs:
    """The base for a job's arguments when they are a plain dataclass.

    ``class ThumbnailArgs(synk.JobArgs, kind="thumbnail")``. A `msgspec.Struct` or a pydantic model
    with a class attribute ``kind`` needs no base class.

    They travel as JSON and come back by the types of their fields: datetime, timedelta, Decimal,
    UUID, bytes, Enum, tuple, set, whole numbers of any size, dict with numbers as keys. A field
    that names no type (Any) gets plain JSON back: lists, texts, and a float from 1e16 on as a whole
    number. A number that is not finite, a NUL character and a lone surrogate are refused.
    """

    kind: ClassVar[str]

    def __init_subclass__(cls, *, kind: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if kind is not None:
            cls.kind = check_label("kind", kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertOptions:
    """How a job is inserted. Every field has a default that suits most jobs.

    Raises:
        InvalidJob: on construction, naming the field and the value.
    """

    scheduled_at: dt.datetime | None = None
    """Not before this time (timezone-aware); None: at once."""
    priority: Priority = Priority.MEDIUM
    pending: bool = False
    """Hold the job in ``pending`` until `Client.ready`."""
    queue: str = DEFAULT_QUEUE
    max_retries: int = DEFAULT_MAX_RETRIES
    """Tries after the first; 6 by default, so 7 attempts."""
    depends_on: tuple[int, ...] = ()
    """Ids of jobs that must complete first. If one is cancelled, this job is too."""
    idempotency_key: str | None = None
    """At most one job has it: inserting another one with the same key stores nothing and gives the
    id of the first, for as long as that is kept. 1 to 255 characters."""

    def __post_init__(self) -> None:
        if self.scheduled_at is not None:
            check_aware("scheduled_at", self.scheduled_at)
        if not _is_integer(self.priority) or self.priority not in tuple(Priority):
            raise InvalidJob("priority", self.priority, "must be 1 (runs first) to 4, see Priority")
        if not isinstance(self.pending, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidJob("pending", self.pending, "must be True or False")
        check_label("queue", self.queue)
        if not _is_integer(self.max_retries) or not 0 <= self.max_retries <= _MAX_RETRIES_MAX:
            raise InvalidJob("max_retries", self.max_retries, "must be a whole number from 0 on")
        if self.idempotency_key is not None:
            check_label("idempotency_key", self.idempotency_key, most=KEY_CHARACTERS_MAX)
        object.__setattr__(self, "priority", Priority(self.priority))
        object.__setattr__(self, "depends_on", _checked_ids("depends_on", self.depends_on))


class NewJob(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A checked job on its way into the storage."""

    name: str
    kind: str
    args: str
    """JSON text."""
    options: InsertOptions


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, as its handler noted it."""

    done: float
    total: float | None = None
    note: str = ""

    @classmethod
    def from_json(cls, text: str | None) -> Progress | None:
        """Returns what `Job.progress` noted; None of nothing."""
        if text is None:
            return None
        given: Any = json.loads(text)
        return cls(given["done"], given["total"], given["note"])

    @property
    def share(self) -> float | None:
        """From 0 to 1; None if the total is not known."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One row of ``synk.job``, as `Client.get` gives it."""

    id: int
    name: str
    kind: str
    queue: str
    state: JobState
    priority: Priority
    args: Json
    """As they were inserted; their JSON text if that is nothing that Python can read."""
    attempt: int
    max_attempts: int
    uncounted: int
    """Attempts that are not charged: never started, or ended by an orderly shutdown."""
    created_at: dt.datetime
    scheduled_at: dt.datetime
    attempted_at: dt.datetime | None
    finalized_at: dt.datetime | None
    attempted_by: list[str]
    """The ids of the clients that claimed it, in order; the last 100."""
    depends_on: list[int]
    waiting_on: list[int]
    """Those of `depends_on` that are not completed yet."""
    errors: list[AttemptError]
    """The last failed attempts, oldest first; at most 20."""
    cancel_reason: CancelReason | None
    cancel_requested_at: dt.datetime | None
    result: Json
    """What the last attempt returned, if it completed."""
    duration: dt.timedelta | None
    """Wall time of the last attempt."""
    cpu_time: dt.timedelta | None
    """CPU time (user and system) of the last attempt, with that of the processes it waited for."""
    system_time: dt.timedelta | None
    """The part of it that the kernel took; None for attempts below 0.2 ms."""
    peak_rss_bytes: int | None
    """The largest resident memory during the last attempt; None for attempts below 0.2 ms."""
    pid: int | None
    """The worker process of the last attempt."""
    host: str | None
    """The host of the last attempt, if its supervisor is still on record."""
    crashes: int
    """Attempts that took their worker process with them; three are too many."""
    lost: int
    """Attempts whose supervisor was lost; three are too many."""
    idempotency_key: str | None
    output: str
    """The end of what the last attempt wrote to stdout and stderr, if it did not fail: failed
    attempts have theirs in `errors`."""
    progress: Progress | None
    """What a handler noted last with `Job.progress`."""
    checkpoint: Json
    """What a handler noted last with `Job.checkpoint`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSummary:
    """What the jobs of one kind took."""

    kind: str
    completed: int
    cancelled: int
    unfinished: int
    errors: int
    """Failed attempts that are on record."""
    duration_p50: dt.timedelta | None
    duration_p95: dt.timedelta | None
    duration_max: dt.timedelta | None
    cpu_time: dt.timedelta
    peak_rss_bytes: int | None
    """The largest of a completed attempt."""


Mark: TypeAlias = tuple[float, int]
"""A place in a queue's order within one priority: when a job was due, in seconds since 1970, and
its id."""


class ClaimedJob(msgspec.Struct, array_like=True, gc=False):
    """A job that this supervisor has claimed; the order of the fields is that of ``claim.sql``.

    It travels to its worker as it is.
    """

    id: int
    attempt: int
    kind: str
    priority: int
    scheduled_at: float
    """In seconds since 1970 UTC, as the other times."""
    max_attempts: int
    uncounted: int
    name: str
    created_at: float
    attempted_at: float
    args: str
    """JSON text, passed on as it came."""
    history: str | None
    """JSON of attempted_by, depends_on, errors and checkpoint, where there was something before
    this claim."""
    crashes: int = 0
    """Earlier attempts that took their worker process with them."""
    queue: str = DEFAULT_QUEUE
    claim_seq: int = 0
    expected_s: float = 0.0
    """How long the pool expects it to run, by what its kind took so far."""
    cancel_requested: bool = False
    disowned: bool = False
    """The storage says that this claim is over: whatever becomes of it is of no use."""

    @property
    def charged(self) -> int:
        """The attempts that count, this one included."""
        return self.attempt - self.uncounted


T = TypeVar("T")


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


class Job(Generic[T]):
    """What a handler gets: its arguments, what the row says of it, and ways to tell how far it is.

    It is a snapshot of the claim. Nothing here talks to the database: a worker has no connection.
    """

    __slots__ = ("_attempt", "_claimed", "_client_id", "_history", "args")

    def __init__(
        self, claimed: ClaimedJob, args: T, client_id: str, attempt: Attempt | None = None
    ) -> None:
        self._claimed = claimed
        self._client_id = client_id
        self._history: dict[str, Any] | None = None
        self._attempt = Attempt() if attempt is None else attempt
        self.args = args
        """The arguments, decoded and validated."""

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.kind!r} attempt {self.attempt}>"

    @property
    def id(self) -> int:
        """The job's id: the same for every attempt, so a good idempotency key for other systems."""
        return self._claimed.id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._claimed.attempt

    @property
    def kind(self) -> str:
        """The kind, by which the worker was chosen."""
        return self._claimed.kind

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self._claimed.queue

    @property
    def name(self) -> str:
        """The name given at the insert."""
        return self._claimed.name

    @property
    def priority(self) -> Priority:
        """Its priority."""
        return Priority(self._claimed.priority)

    @property
    def max_attempts(self) -> int:
        """How many charged attempts it has in all."""
        return self._claimed.max_attempts

    @property
    def uncounted(self) -> int:
        """Attempts so far that are not charged."""
        return self._claimed.uncounted

    @property
    def created_at(self) -> dt.datetime:
        """When it was inserted."""
        return _time(self._claimed.created_at)

    @property
    def scheduled_at(self) -> dt.datetime:
        """When it was due."""
        return _time(self._claimed.scheduled_at)

    @property
    def attempted_at(self) -> dt.datetime:
        """When this attempt was claimed."""
        return _time(self._claimed.attempted_at)

    @property
    def state(self) -> JobState:
        """`JobState.RUNNING`."""
        return JobState.RUNNING

    @property
    def attempted_by(self) -> list[str]:
        """The ids of the clients that claimed it, this one last; at most 100."""
        return self._past().get("attempted_by", [self._client_id])

    @property
    def depends_on(self) -> list[int]:
        """The ids of the jobs that had to complete first."""
        return self._past().get("depends_on", [])

    @property
    def errors(self) -> list[AttemptError]:
        """The failed attempts before this one, oldest first."""
        return [AttemptError.from_dict(error) for error in self._past().get("errors", [])]

    @property
    def last_checkpoint(self) -> Json:
        """What an earlier attempt gave to `checkpoint` last; None if there is nothing."""
        return self._past().get("checkpoint")

    @property
    def deadline(self) -> dt.datetime | None:
        """When this attempt is killed if it still runs."""
        return self._attempt.deadline

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked to cancel this job. `JobCancelled` is raised for it too."""
        return self._attempt.cancelled

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Notes how far the job is: for `Client.get`, ``synk job`` and ``synk top``.

        It costs microseconds, so it may be called for each item. The supervisor stores the latest
        about once a second, and what was noted before a kill is stored too.

        Args:
            done: how much is done, in any unit.
            total: how much there is in all, if known.
            note: a few words; 200 characters are kept.

        Raises:
            InvalidValue: a number is none or not finite.
        """
        self._attempt.note_progress(progress_text(done, total, note))

    def checkpoint(self, value: object) -> None:
        """Notes where the next attempt may go on, if this one does not end well.

        The next attempt finds the latest as `last_checkpoint`, also if this one is killed.

        Args:
            value: what JSON can hold, at most 64 KiB of it.

        Raises:
            InvalidValue: it is not JSON, or too large.
        """
        self._attempt.note_checkpoint(checkpoint_text(value))

    @property
    def fence(self) -> Fence:
        """What names this very attempt, for systems that can refuse an older one."""
        return Fence(self.id, self.attempt, self._claimed.claim_seq)

    def complete_tx(self, connection: Any, result: object = None) -> None:
        """Completes this job in your own transaction on the database that holds it.

        Your writes and the job's end are then one: commit, and both are there, exactly once, also
        if the job runs twice; roll back, and neither is. Commit soon, and return: the job's row is
        locked meanwhile. What the handler returns is ignored then.

        Args:
            connection: a psycopg connection or cursor, or anything else whose ``execute(sql,
                parameters)`` takes ``%s``; its role needs the rights of a supervisor.
            result: what JSON can hold, kept as the job's result.

        Raises:
            LeaseLost: the job is not this attempt's any more: roll back, somebody else does it.
            InvalidValue: the result is not JSON, or too large.
        """
        text = None if result is None else checkpoint_text(result, "result").decode()
        schema = self._attempt.schema
        if schema is None:
            # Made by hand, in a test of the handler: there is no row.
            return
        from ulid import ULID  # noqa: PLC0415 - most workers have no use for it

        owner = ULID.from_str(self._client_id).to_uuid()
        done = connection.execute(
            f'SELECT "{schema}".complete(%s, %s, %s::uuid, %s, %s::jsonb)',
            (self.id, self.attempt, str(owner), self.fence.claim_seq, text),
        )
        row = (connection if done is None else done).fetchone()
        if not row or not row[0]:
            raise LeaseLost(
                f"job {self.id} attempt {self.attempt} is not this worker's any more: roll back"
            )

    def _past(self) -> dict[str, Any]:
        if self._history is None:
            text = self._claimed.history
            self._history = {} if text is None else json.loads(text)
        return self._history or {}


@dataclass(frozen=True, slots=True)
class Fence:
    """Names one claim of one job."""

    id: int
    attempt: int
    claim_seq: int


class Outcome(msgspec.Struct, gc=False):
    """What is to be written about an attempt; applied only if the fence holds."""

    id: int
    attempt: int
    claim_seq: int
    state: JobState = JobState.COMPLETED
    duration_us: int = 0
    cpu_us: int = 0
    system_us: int = 0
    """The part of the CPU time that the kernel took."""
    peak_rss_bytes: int = 0
    pid: int | None = None
    result: str | None = None
    """JSON text."""
    error: str | None = None
    """An AttemptError as JSON text."""
    crashed: bool = False
    """Whether it took its worker process with it."""
    output: str | None = None
    """The end of what it wrote to stdout and stderr, if it did not fail: an error has its own."""
    progress: str | None = None
    checkpoint: str | None = None
    """What it noted, as JSON text; None: nothing new."""
    retry_at: dt.datetime | None = None
    retry_in_s: float | None = None
    """Seconds from the acknowledgement on; of the two, `retry_at` wins."""
    cancel_reason: CancelReason | None = None
    uncharged: bool = False


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
    if not _is_integer(value) or not _SMALLEST_ID <= value < 2**63:
        raise InvalidJob(field_name, value, "must be the id of a job, a whole number from 1 on")
    return value


def _checked_ids(field_name: str, values: Iterable[int]) -> tuple[int, ...]:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise InvalidJob(field_name, values, "must be the ids of jobs")
    return tuple(dict.fromkeys(check_id(field_name, value) for value in values))


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
