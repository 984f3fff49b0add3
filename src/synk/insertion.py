"""A job as it is inserted: its options, and what neither they nor its arguments may be.

What is wrong is refused here, while there is somebody to tell, and before anything is sent.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import msgspec

from synk.arguments import encode_args
from synk.errors import ConfigurationError, InvalidJob
from synk.limit import NO_LIMITS, Limit
from synk.plain import json_text
from synk.row import (
    DEFAULT_QUEUE,
    FOR_EVER,
    KEY_CHARACTERS_MAX,
    Priority,
    check_aware,
    check_id,
    check_label,
    check_tags,
    is_whole,
)
from synk.unique import Inserted, Unique

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from synk.limit import Limits

DEFAULT_MAX_RETRIES: Final = 6
_MAX_RETRIES_MAX: Final = 1_000_000
_LONGEST_WAIT: Final = FOR_EVER
_META_BYTES_MAX: Final = 32 * 1024
"""Most of it fits into the table's 64 KiB of PostgreSQL's own form; the rest is refused there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertOptions:
    """How a job is inserted. Every field has a default that suits most jobs.

    None says nothing: then the worker of the job's kind decides by its options of the same name,
    if the client has one, and else the defaults that are named here.

    Attributes:
        scheduled_at: not before this time (timezone-aware); None, the default: at once.
        priority: what runs first within a queue; None: the kind's, or `Priority.MEDIUM`.
        pending: whether the job is held in ``pending`` until `Client.ready`; False by default.
        queue: the queue that it waits in, 1 to 127 characters; None: the kind's, or ``default``.
        max_retries: tries after the first, 0 to 1,000,000; None: the kind's, or 6, so 7 attempts.
        depends_on: ids of jobs that must complete first; none by default. If one of them is
            cancelled or deleted, this job is cancelled.
        idempotency_key: at most one job has it: the same job, inserted again with the same key, is
            not stored and gives the id of the first, for as long as that is kept. The same is what
            has the same kind and arguments, whatever its name and its other options; another job
            is refused with `KeyReused`. 1 to 255 characters; None, the default: no key.
        tags: words by which jobs are found, up to 100 of 1 to 127 characters each; None: the
            kind's, or none.
        meta: what you want to have with the job, a dict that JSON can hold, at most 32 KiB of it,
            with text as keys; synk does not read it. None, the default: nothing.
        start_before: a time, or a time from the insert on: if the job has not begun by then it
            never does, and ends ``cancelled`` for the reason ``expired``. Once an attempt counts it
            has begun, and is tried again as others are. None, the default: at any time.
        keep: for how long it is kept when it is over, above zero, whatever the cleaner is told;
            `timedelta.max`, or a thousand years: for ever. None: the kind's, or the cleaner's.
        unique: which jobs are the same as this one, of which only one may be there at a time, see
            `Unique`; not beside an idempotency key. None: the kind's, or none.

    Raises:
        InvalidJob: on construction, naming the field and the value.
    """

    scheduled_at: dt.datetime | None = None
    priority: Priority | None = None
    pending: bool = False
    queue: str | None = None
    max_retries: int | None = None
    depends_on: tuple[int, ...] = ()
    idempotency_key: str | None = None
    tags: Collection[str] | None = None
    meta: Mapping[str, Any] | None = None
    start_before: dt.datetime | dt.timedelta | None = None
    keep: dt.timedelta | None = None
    unique: Unique | None = None

    def __post_init__(self) -> None:
        if self.scheduled_at is not None:
            check_aware("scheduled_at", self.scheduled_at)
        if self.priority is not None:
            object.__setattr__(self, "priority", _checked_priority(self.priority))
        if not isinstance(self.pending, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidJob("pending", self.pending, "must be True or False")
        if self.queue is not None:
            check_label("queue", self.queue)
        if self.max_retries is not None:
            _check_retries(self.max_retries)
        if self.idempotency_key is not None:
            check_label("idempotency_key", self.idempotency_key, most=KEY_CHARACTERS_MAX)
        object.__setattr__(self, "depends_on", _checked_ids("depends_on", self.depends_on))
        self._check_extras()

    def _check_extras(self) -> None:
        if self.tags is not None:
            object.__setattr__(self, "tags", check_tags(self.tags))
        if self.meta is not None:
            _check_meta(self.meta)
        if self.start_before is not None:
            _check_start_before(self.start_before, self.scheduled_at)
        if self.keep is not None:
            _check_above_zero("keep", self.keep)
        if self.unique is not None:
            _check_unique(self.unique, self.idempotency_key)

    @property
    def has_extras(self) -> bool:
        """Whether there is something in the columns that are NULL in plain rows."""
        return bool(self.tags) or self.meta is not None or self.needs_sweep

    @property
    def needs_sweep(self) -> bool:
        """Whether the time alone will do something to the job: only some storages know that."""
        return self.start_before is not None or self.keep is not None

    def over(self, defaults: JobOptions) -> JobOptions:
        """Returns *defaults* with all that these options say."""
        # Both were checked when they were made, and a bulk insert may have one for each job.
        made = object.__new__(JobOptions)
        for put, value, default in zip(_PUTS, _VALUES(self), _VALUES(defaults), strict=True):
            put(made, default if value is None else value)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions(InsertOptions):
    """The options of a job as it is stored: nothing is left for the kind to say."""

    priority: Priority = Priority.MEDIUM
    queue: str = DEFAULT_QUEUE
    max_retries: int = DEFAULT_MAX_RETRIES


def _checked_priority(value: object) -> Priority:
    if not is_whole(value) or value not in tuple(Priority):
        raise InvalidJob("priority", value, "must be 1 (runs first) to 4, see Priority")
    return Priority(value)


def _check_retries(value: object) -> None:
    if not is_whole(value) or not 0 <= value <= _MAX_RETRIES_MAX:
        raise InvalidJob("max_retries", value, "must be a whole number from 0 on")


def _checked_ids(field_name: str, values: Iterable[int]) -> tuple[int, ...]:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise InvalidJob(field_name, values, "must be the ids of jobs")
    return tuple(dict.fromkeys(check_id(field_name, value) for value in values))


def _check_start_before(given: object, scheduled_at: dt.datetime | None) -> None:
    if isinstance(given, dt.timedelta):
        if _check_above_zero("start_before", given) > _LONGEST_WAIT:
            raise InvalidJob("start_before", given, "is more than a thousand years away")
    elif isinstance(given, dt.datetime):
        check_aware("start_before", given)
        if scheduled_at is not None and given <= scheduled_at:
            raise InvalidJob("start_before", given, f"is not after scheduled_at={scheduled_at}")
    else:
        raise InvalidJob("start_before", given, "must be a datetime or a timedelta")


def _check_above_zero(field_name: str, given: object) -> dt.timedelta:
    if not isinstance(given, dt.timedelta):
        raise InvalidJob(field_name, given, "must be a timedelta")
    if given <= dt.timedelta(0):
        raise InvalidJob(field_name, given, "must be above zero")
    return given


def _check_meta(meta: object) -> None:
    if not isinstance(meta, Mapping):
        raise InvalidJob("meta", meta, "must be a dict")
    try:
        size = len(json_text(cast("object", meta)).encode())
    except ValueError as error:
        raise InvalidJob("meta", cast("object", meta), str(error)) from None
    if size > _META_BYTES_MAX:
        problem = f"{size} bytes of JSON, at most {_META_BYTES_MAX}"
        raise InvalidJob("meta", cast("object", meta), problem)


def _check_unique(unique: object, key: str | None) -> None:
    if not isinstance(unique, Unique):
        raise InvalidJob("unique", unique, "must be a synk.Unique")
    if key is not None:
        raise InvalidJob("unique", unique, f"not beside idempotency_key={key!r}: give one of them")


_FIELDS: Final = [each.name for each in fields(InsertOptions)]
_VALUES: Final = attrgetter(*_FIELDS)
_PUTS: Final = [getattr(InsertOptions, name).__set__ for name in _FIELDS]
_GENERAL: Final = JobOptions()


class NewJob(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A checked job on its way into the storage.

    Attributes:
        name: what people read in lists.
        kind: what ties it to its worker.
        args: JSON text, at most 1 MiB.
        options: all else, with the defaults of its kind.
        limit: the limit that it has, by which the table makes its key; None, the default: none.
        chosen: JSON text of what it is unique by; empty, the default: it is not unique.
    """

    name: str
    kind: str
    args: str
    options: JobOptions
    limit: Limit | None = None
    chosen: str = ""


JobSpec: TypeAlias = "tuple[str, Any] | tuple[str, Any, InsertOptions]"
"""One job for `insert_many`: (name, args) or (name, args, options)."""


class _Completion:
    """Completes jobs by what inserts of their kind default to, and by their limits."""

    def __init__(self, defaults: Mapping[str, JobOptions], limits: Limits) -> None:
        self.defaults = defaults
        self.limits = limits
        self._last: tuple[InsertOptions, str] | None = None
        self._complete = _GENERAL

    def completed(self, options: InsertOptions, kind: str) -> JobOptions:
        # Many jobs share one object of options, and are stored sooner if they still do.
        if self._last is None or self._last[0] is not options or self._last[1] != kind:
            self._last = options, kind
            self._complete = options.over(self.defaults.get(kind, _GENERAL))
        return self._complete


def new_job(
    name: str,
    args: Any,
    options: InsertOptions | None,
    defaults: Mapping[str, JobOptions],
    limits: Limits = NO_LIMITS,
) -> NewJob:
    """Returns the checked job.

    Args:
        name: see `Client.insert`, as for the others.
        args: the arguments.
        options: what is said of this job.
        defaults: kind -> what holds where they say nothing.
        limits: those of kinds and queues.

    Raises:
        InvalidJob: a value is wrong, named with its field.
    """
    return _named(check_label("name", name), args, options, _Completion(defaults, limits))


def _named(name: str, args: Any, options: InsertOptions | None, completion: _Completion) -> NewJob:
    if options is None:
        kind, text = encode_args(args)
        complete = completion.defaults.get(kind, _GENERAL)
        in_order = False
    elif not isinstance(options, InsertOptions):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidJob("options", options, "must be InsertOptions")
    else:
        in_order = options.idempotency_key is not None or options.unique is not None
        kind, text = encode_args(args, in_order=in_order)
        complete = completion.completed(options, kind)
    limit = completion.limits.of(kind, complete.queue) if completion.limits else None
    unique = complete.unique
    if unique is None:
        return NewJob(name=name, kind=kind, args=text, options=complete, limit=limit)
    # The kind may have said so.
    _check_unique(unique, complete.idempotency_key)
    if not in_order:
        _, text = encode_args(args, in_order=True)
    chosen = unique.chosen(kind, complete.queue, text)
    return NewJob(name=name, kind=kind, args=text, options=complete, limit=limit, chosen=chosen)


def new_jobs(
    jobs: Iterable[JobSpec], defaults: Mapping[str, JobOptions], limits: Limits = NO_LIMITS
) -> list[NewJob]:
    """Returns the checked jobs of `Client.insert_many`.

    Raises:
        InvalidJob: one of them is wrong.
    """
    checked: list[NewJob] = []
    name: Any = object()
    completion = _Completion(defaults, limits)
    for index, job in enumerate(jobs):
        if not isinstance(job, tuple) or not 2 <= len(job) <= 3:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidJob(f"jobs[{index}]", job, "must be (name, args) or (name, args, options)")
        if job[0] is not name:
            # Most have the name of the one before.
            name = check_label("name", job[0])
        checked.append(_named(name, job[1], job[2] if len(job) == 3 else None, completion))
    optioned = [job.options for job in checked if job.options is not _GENERAL]
    for key, count in Counter(options.idempotency_key for options in optioned).items():
        if key is not None and count > 1:
            raise InvalidJob("idempotency_key", key, f"is that of {count} jobs of one insert")
    return checked


def cannot_be_doubled(jobs: Sequence[NewJob]) -> bool:
    """Whether a repeat of their insert stores none of *jobs* twice.

    Each has a key, or passes over the same job that it stored itself. What has begun by then is
    there once more, as after any other insert that comes so late.
    """
    return all(
        job.options.idempotency_key is not None
        or (job.options.unique is not None and job.options.unique.on_conflict == "skip")
        for job in jobs
    )


def told(job_id: int, job: NewJob) -> Inserted:
    """Returns the id of *job* with what is known of whether it existed."""
    if isinstance(job_id, Inserted):
        return job_id
    has_key = job.options.idempotency_key is not None
    return Inserted.of(job_id, existed=None) if has_key else Inserted(job_id)


def check_given(connection: object) -> None:
    """Checks that there is a connection.

    Raises:
        ConfigurationError: there is none.
    """
    if connection is None:
        raise ConfigurationError(
            "connection", None, "give the connection of your transaction; `insert` needs none"
        )
