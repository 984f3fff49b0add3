"""What a job is unique by, and what became of an insert that met another one.

A `Unique` says which jobs are the same, and until when. What it chooses of a job (`chosen`) is made
here, its key by the database, of the same JSON whoever writes it.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias, cast, get_args

import msgspec

from synk.errors import ConfigurationError, InvalidJob

Until: TypeAlias = Literal["started", "finished"]
OnConflict: TypeAlias = Literal["skip", "replace", "raise"]

_KIND: Final = "kind"
_QUEUE: Final = "queue"
_ARGS: Final = "args"
_PART: Final = re.compile(r"(queue|args(\.[^.]+)*)")
_PARTS_MAX: Final = 16
_PERIOD_MAX: Final = dt.timedelta(days=36_600)

_fields_of: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """Which jobs are the same, of which only one may be there at a time.

    Attributes:
        by: what they have in common besides their kind: ``args`` (all arguments, the default),
            ``args.tenant`` or ``args.a.b`` (a field, by its name in JSON), ``queue``. Empty: the
            kind alone.
        until: for how long a job keeps others out: until it is ``started`` (the default: what
            comes while it runs makes a second job), or ``finished``, completed or cancelled.
        period: jobs whose `scheduled_at` lies in different periods may be beside each other;
            periods follow one another from 1970 on, in UTC. None, the default: all are one.
        on_conflict: what an insert does that meets another job: ``skip`` (the default) returns
            that one's id; ``replace`` puts its own arguments, time and priority into it, if it
            waits; ``raise`` raises `NotUnique`.

    Raises:
        ConfigurationError: on construction, naming the field and the value.
    """

    by: tuple[str, ...] = (_ARGS,)
    until: Until = "started"
    period: dt.timedelta | None = None
    on_conflict: OnConflict = "skip"

    def __post_init__(self) -> None:
        by: object = self.by
        if not isinstance(by, (tuple, list)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                "unique.by", by, 'must be a tuple, as in ("args.tenant", "queue")'
            )
        parts = {_checked_part(part) for part in cast("list[object]", by) if part != _KIND}
        if len(parts) > _PARTS_MAX:
            raise ConfigurationError("unique.by", self.by, f"has more than {_PARTS_MAX} parts")
        object.__setattr__(self, "by", tuple(sorted(parts)))
        _check_choice("until", self.until, get_args(Until))
        _check_choice("on_conflict", self.on_conflict, get_args(OnConflict))
        if self.period is not None:
            if not isinstance(self.period, dt.timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError("unique.period", self.period, "must be a timedelta")
            if not dt.timedelta(0) < self.period <= _PERIOD_MAX:
                raise ConfigurationError(
                    "unique.period", self.period, "must be above 0, 100 years at most"
                )

    @property
    def paths(self) -> list[str]:
        """Those of `by` that lead into the arguments."""
        return [part for part in self.by if "." in part]

    def scope(self) -> str:
        """Returns JSON of what the row of a job says of its scope."""
        scope: dict[str, object] = {"by": self.by, "until": self.until}
        if self.period is not None:
            seconds = self.period.total_seconds()
            scope["period"] = int(seconds) if seconds.is_integer() else seconds
        return msgspec.json.encode(scope).decode()

    def chosen(self, kind: str, queue: str, args: str) -> str:
        """Returns JSON of what a job of *kind* in *queue* with *args*, JSON too, is unique by.

        Raises:
            InvalidJob: a field is not there.
        """
        chosen: dict[str, object] = {_KIND: kind}
        for part in self.by:
            chosen[part] = queue if part == _QUEUE else _value_at(part, args)
        return msgspec.json.encode(chosen).decode()


def _checked_part(part: object) -> str:
    if isinstance(part, str) and _PART.fullmatch(part) and part.isprintable() and len(part) < 256:
        return part
    raise ConfigurationError("unique.by", part, 'must be "args", "args.<field>" or "queue"')


def _check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"unique.{field}", value, f"must be one of {', '.join(choices)}")


def _value_at(part: str, args: str) -> msgspec.Raw:
    value = msgspec.Raw(args)
    try:
        for name in _names(part):
            value = _fields_of(value)[name]
    except (KeyError, msgspec.DecodeError):
        raise InvalidJob("unique.by", part, "there is no such field in the arguments") from None
    return value


@functools.lru_cache(maxsize=1024)
def _names(part: str) -> list[str]:
    return part.split(".")[1:]


class Inserted(int):
    """The id of a job that was inserted, or of the one that was there.

    Attributes:
        existed: whether it was there, and nothing was stored but, with ``replace``, what it does;
            None of a job with an idempotency key: that is not told.
    """

    existed: bool | None = False

    @classmethod
    def of(cls, job_id: int, *, existed: bool | None) -> Self:
        """Returns *job_id*, with whether it *existed*."""
        inserted = cls(job_id)
        inserted.existed = existed
        return inserted


@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueScope:
    """What the row of a job says of the scope that it was inserted into.

    Attributes:
        by: what it is unique by, besides its kind.
        until: ``started`` or ``finished``.
        period: how long a period is; None: there are none.
        begins: when its own period began; None: there are none.
        job_id: the job that is in the scope now, perhaps this one; None: there is none.
    """

    by: tuple[str, ...]
    until: str
    period: dt.timedelta | None
    begins: dt.datetime | None
    job_id: int | None

    @classmethod
    def from_json(cls, text: str | None) -> UniqueScope | None:
        """Returns the scope of its JSON *text*; None of nothing, and of what nobody can read."""
        try:
            scope: Any = msgspec.json.decode(text or "null")
            if scope is None:
                return None
            return cls(
                by=tuple(str(part) for part in scope["by"]),
                until=str(scope.get("until", "started")),
                period=dt.timedelta(seconds=scope["period"]) if "period" in scope else None,
                begins=_time(scope["begins"]) if "begins" in scope else None,
                job_id=scope.get("job_id"),
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return None


def _time(seconds: float) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
