"""A job as it is inserted: its arguments, its options, and what neither may be."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeGuard

import msgspec

from synk.errors import InvalidJob
from synk.row import DEFAULT_QUEUE, Priority

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_CHARACTERS_MAX: Final = 127
"""The longest name, queue or kind; the table's own limit."""

KEY_CHARACTERS_MAX: Final = 255
"""The longest idempotency key; the table's own limit."""

ARGS_BYTES_MAX: Final = 1024 * 1024
"""The largest encoded arguments: a job is a message, files belong elsewhere."""

DEFAULT_MAX_RETRIES: Final = 6
_SMALLEST_ID: Final = 1
_MAX_RETRIES_MAX: Final = 1_000_000

_MADE_FIELDS: Final = ("__dataclass_fields__", "__attrs_attrs__")
_LIMITS: Final = ("timeout", "soft_timeout", "max_rss", "next_retry")


class JobArgs:
    """The base for a job's arguments when they are a plain dataclass.

    ``class ThumbnailArgs(synk.JobArgs, kind="thumbnail")``. A `msgspec.Struct` or a pydantic model
    with a class attribute ``kind`` needs no base class.

    They travel as JSON and come back by the types of their fields: datetime, timedelta, Decimal,
    UUID, bytes, Enum, tuple, set, whole numbers of any size, dict with numbers as keys. A field
    that names no type (Any) gets plain JSON back: lists, texts, and a float from 1e16 on as a whole
    number. A number that is not finite, a NUL character and a lone surrogate are refused.

    Attributes:
        kind: what ties a job to its worker, by the class's ``kind="..."``; 1 to 127 characters.
    """

    kind: ClassVar[str]

    def __init_subclass__(cls, *, kind: str | None = None, **options: Any) -> None:
        for name, value in options.items():
            if name in InsertOptions.__dataclass_fields__:
                raise InvalidJob(
                    name, value, f"is no matter of a class: insert with InsertOptions({name}=...)"
                )
            if name in _LIMITS:
                raise InvalidJob(
                    name, value, f"is no matter of the arguments: write @synk.worker({name}=...)"
                )
        super().__init_subclass__(**options)
        if kind is not None:
            cls.kind = check_label("kind", kind)

    def __init__(self, *values: object, **named: object) -> None:
        # A dataclass has its own: this one is called where the decorator is missing.
        JobArgs.check_declared(type(self))
        super().__init__(*values, **named)

    @staticmethod
    def check_declared(args_type: type[JobArgs]) -> None:
        """Checks that the fields of *args_type* are known to be such.

        Raises:
            InvalidJob: nothing has made fields of what it declares.
        """
        own = vars(args_type)
        if any(name in own for name in _MADE_FIELDS) or hasattr(args_type, "model_fields"):
            return
        fields = [n for n, t in own.get("__annotations__", {}).items() if "ClassVar" not in str(t)]
        if fields or not any(hasattr(args_type, name) for name in _MADE_FIELDS):
            raise InvalidJob(
                "args",
                args_type,
                f"is no dataclass: write @dataclass above `class {args_type.__name__}`",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertOptions:
    """How a job is inserted. Every field has a default that suits most jobs.

    Attributes:
        scheduled_at: not before this time (timezone-aware); None, the default: at once.
        priority: what runs first within a queue; `Priority.MEDIUM` by default.
        pending: whether the job is held in ``pending`` until `Client.ready`; False by default.
        queue: the queue that it waits in, ``default`` by default; 1 to 127 characters.
        max_retries: tries after the first, 0 to 1,000,000; 6 by default, so 7 attempts.
        depends_on: ids of jobs that must complete first; none by default. If one of them is
            cancelled or deleted, this job is cancelled.
        idempotency_key: at most one job has it: the same job, inserted again with the same key, is
            not stored and gives the id of the first, for as long as that is kept. The same is what
            has the same kind and arguments, whatever its name and its other options; another job
            is refused with `KeyReused`. 1 to 255 characters; None, the default: no key.

    Raises:
        InvalidJob: on construction, naming the field and the value.
    """

    scheduled_at: dt.datetime | None = None
    priority: Priority = Priority.MEDIUM
    pending: bool = False
    queue: str = DEFAULT_QUEUE
    max_retries: int = DEFAULT_MAX_RETRIES
    depends_on: tuple[int, ...] = ()
    idempotency_key: str | None = None

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
    """A checked job on its way into the storage.

    Attributes:
        name: what people read in lists.
        kind: what ties it to its worker.
        args: JSON text, at most 1 MiB.
        options: all else.
    """

    name: str
    kind: str
    args: str
    options: InsertOptions


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
