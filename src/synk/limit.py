"""Limits: how many processes of the fleet may be at work for one key, how many jobs may begin.

A job has one limit at most: that of its kind, or else that of its queue. What is counted together
is a key: the limit's name, or, where the limit has a path into the arguments, the name, a colon and
the value found there (`Limit.key`). The table makes keys, in ``synk.limit_key``, the same for every
writer; here is what a limit is, and what of it holds at the moment.

No I/O here.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from synk.arguments import reads_names
from synk.errors import ConfigurationError
from synk.ordered import field_names
from synk.row import is_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from synk.claim import ClaimedJob

RUNNING_MAX: Final = 1_000_000
RATE_MAX: Final = 1_000_000_000
PERIOD_MAX: Final = dt.timedelta(days=366)
_PERIOD_MIN: Final = dt.timedelta(milliseconds=1)

KEY_CHARACTERS_MAX: Final = 127
"""Of a limit's key: a name of 63, a colon, and a value of 63, or a hash of a longer one."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_PATH: Final = re.compile(r"args(\.[^.\s\x00]{1,127}){1,16}")
_SCALARS: Final = (str, int, float, bool, bytes, dt.datetime, dt.date, dt.timedelta)

Rate: TypeAlias = tuple[int, dt.timedelta]
"""So many jobs in such a time."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What the jobs of a kind, or of a queue, may take of the fleet together.

    ``@synk.worker(limit=synk.Limit("tenant", key="args.tenant", running=4))``

    Attributes:
        name: what people know it by, and what it is set by while jobs run: 1 to 63 letters, digits,
            ``_``, ``.`` and ``-``. Kinds and queues that give limits of one name share one; what
            they give must be the same, but for `key`.
        key: a path into the arguments, such as ``args.tenant`` or ``args.customer.id``, as they
            are in JSON. Each value there is limited by itself, as a text: the number 5 and the text
            "5" are one key, and one of more than 63 characters counts by its hash. Jobs with null
            there, or nothing, share one key of their own. None, the default: one key for all.
        running: how many worker processes of the whole fleet may be at work for one key, 1 to
            1,000,000. None, the default: any number, and the keys take turns.
        rate: (count, period): no more than *count* jobs of one key begin in any *period*, from 1 ms
            to 366 days. None, the default: as they come.

    Raises:
        ConfigurationError: a value is wrong, named with its field, or the limit limits nothing.
    """

    name: str
    _: dataclasses.KW_ONLY
    key: str | None = None
    running: int | None = None
    rate: Rate | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.key is not None and (
            not isinstance(self.key, str) or _PATH.fullmatch(self.key) is None  # pyright: ignore[reportUnnecessaryIsInstance]
        ):
            problem = 'must be a path into the arguments, as in "args.tenant"'
            raise ConfigurationError("limit.key", self.key, problem)
        check_running(self.running)
        check_rate(self.rate)
        if self.key is None and self.running is None and self.rate is None:
            raise ConfigurationError(
                "limit", self, "limits nothing: give running=, rate=, or key= for keys in turns"
            )

    @property
    def path(self) -> tuple[str, ...]:
        """The names on the way into the arguments; empty: one key for all."""
        return () if self.key is None else tuple(self.key.split(".")[1:])

    @property
    def cap(self) -> Cap:
        """What it says of each key."""
        return Cap(self.running, self.rate)


@dataclass(frozen=True, slots=True)
class Cap:
    """What holds for one key.

    Attributes:
        running: processes at work for it; None, the default: any number.
        rate: jobs that begin in a time; None, the default: as they come.
    """

    running: int | None = None
    rate: Rate | None = None


@dataclass(frozen=True, slots=True, order=True)
class Permit:
    """That one worker process may be at work for a key.

    It belongs to the supervisor that took it, for as long as that process is at work for the key,
    or until the supervisor gives it back.

    Attributes:
        key: whose jobs.
        slot: which of the key's permits, from 0 on. One at or above `Cap.running` is of before that
            was lowered, and is given back as soon as its process is idle.
        claim_seq: by which claim of that supervisor it was taken.
    """

    key: str
    slot: int
    claim_seq: int

    @property
    def place(self) -> tuple[str, int]:
        """Which one of the whole fleet's it is, whoever took it, and when."""
        return self.key, self.slot


KeyedCursor: TypeAlias = "Mapping[int, str]"
"""Where the next claim of keyed jobs goes on among the keys: by priority, behind which key. As a
claim answered it, for the next one; empty: from the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedClaim:
    """What a claim of keyed jobs brought.

    Attributes:
        jobs: the jobs, the most urgent first.
        keys: of each of them its key.
        permits: what was taken for them: of each of these keys that `Cap.running` limits, besides
            what the claim was told the owner holds. A key's first jobs are meant for what was held.
        next: where the next claim goes on.
        is_cut: whether there are keys that this claim has not come to.
        token_in_s: in how many seconds a job may begin, the next one that waits for its key's rate;
            None: none waits for that, of what this claim looked at.
    """

    jobs: Sequence[ClaimedJob] = ()
    keys: Sequence[str] = ()
    permits: Sequence[Permit] = ()
    next: KeyedCursor = dataclasses.field(default_factory=dict[int, str])
    is_cut: bool = False
    token_in_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of kinds and queues that a client knows.

    Attributes:
        by_kind: of the kinds whose worker gives one.
        by_queue: of the queues whose settings give one.

    Raises:
        ConfigurationError: two of one name say different things.
    """

    by_kind: Mapping[str, Limit] = dataclasses.field(default_factory=dict[str, Limit])
    by_queue: Mapping[str, Limit] = dataclasses.field(default_factory=dict[str, Limit])

    def __post_init__(self) -> None:
        limits_by_name(self)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.by_kind or self.by_queue)

    def __iter__(self) -> Iterator[Limit]:
        """Gives all of them."""
        yield from self.by_kind.values()
        yield from self.by_queue.values()

    @property
    def caps(self) -> dict[str, Cap]:
        """What they say, by name."""
        return {limit.name: limit.cap for limit in self}

    def has_any_for(self, queue: str) -> bool:
        """Whether jobs of *queue* may have a limit."""
        return bool(self.by_kind) or queue in self.by_queue

    def of(self, kind: str, queue: str) -> Limit | None:
        """Returns the limit of a job: that of its *kind*, or else that of its *queue*."""
        return self.by_kind.get(kind) or self.by_queue.get(queue)


def cap_of(key: str, caps: Mapping[str, Cap]) -> Cap:
    """Returns what holds for *key*, of what is said of keys and of limits by their names."""
    cap = caps.get(key)
    return caps.get(key.partition(":")[0], _NO_CAP) if cap is None else cap


_NO_CAP: Final = Cap()


def limits_by_name(limits: Iterable[Limit]) -> dict[str, Limit]:
    """Returns each of *limits* by its name.

    Raises:
        ConfigurationError: two of one name say different things.
    """
    found: dict[str, Limit] = {}
    for limit in limits:
        other = found.setdefault(limit.name, limit)
        if other.cap != limit.cap:
            problem = f"has the name of {other}, and says something else: give one of them another"
            raise ConfigurationError("limit", limit, problem)
    return found


def check_limit(field_name: str, limit: object, args_type: Any = None) -> Limit | None:
    """Returns *limit*, which may be of jobs with arguments of *args_type*.

    Raises:
        ConfigurationError: it is something else than a `Limit` or None, or its `key` leads nowhere
            in these arguments.
    """
    if limit is not None and not isinstance(limit, Limit):
        raise ConfigurationError(field_name, limit, "must be a synk.Limit")
    if limit is not None and limit.key is not None and args_type is not None:
        check_path("limit.key", limit.key, args_type)
    return limit


def check_name(name: object) -> str:
    """Returns *name* if a limit can have it.

    Raises:
        ConfigurationError: it cannot.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        problem = "must be 1 to 63 letters, digits, _, . and -, not . or - first"
        raise ConfigurationError("limit.name", name, problem)
    return name


def check_running(running: object) -> None:
    """Checks a number of processes.

    Raises:
        ConfigurationError: it is out of its range.
    """
    if running is not None and (not is_whole(running) or not 1 <= running <= RUNNING_MAX):
        problem = f"must be a whole number from 1 to {RUNNING_MAX}; None: any number"
        raise ConfigurationError("limit.running", running, problem)


def check_rate(rate: object) -> None:
    """Checks a number of jobs in a time.

    Raises:
        ConfigurationError: it has no period, or one of both is out of its range.
    """
    if rate is None:
        return
    given = typing.cast("tuple[Any, ...]", rate if isinstance(rate, tuple) else ())
    if len(given) != 2:
        problem = "must be a number and a period, as in (100, timedelta(minutes=1))"
        raise ConfigurationError("limit.rate", typing.cast("object", rate), problem)
    count, period = given
    if not is_whole(count) or not 1 <= count <= RATE_MAX:
        problem = f"must begin with a whole number from 1 to {RATE_MAX}"
        raise ConfigurationError("limit.rate", given, problem)
    if not isinstance(period, dt.timedelta) or not _PERIOD_MIN <= period <= PERIOD_MAX:
        problem = "must end with a timedelta, from 1 ms to 366 days"
        raise ConfigurationError("limit.rate", given, problem)


def check_path(field_name: str, path: str, args_type: Any) -> None:
    """Checks that arguments of *args_type* can have what a path such as ``args.tenant`` leads to.

    Raises:
        ConfigurationError: they cannot. Where the types do not tell, nothing is said.
    """
    here, way = args_type, "args"
    for name in path.split(".")[1:]:
        fields = _fields_of(here)
        if fields is None:
            return
        if name not in fields:
            there = f"{way} has {', '.join(sorted(fields))}" if fields else f"{way} has no fields"
            raise ConfigurationError(
                field_name, path, f"leads nowhere in {_named(args_type)}: {there}"
            )
        here, way = fields[name], f"{way}.{name}"


def _fields_of(shape: Any) -> dict[str, Any] | None:
    """Returns the fields of a type by their names in JSON, with their types; None: unknown."""
    origin = typing.get_origin(shape)
    if origin is typing.Annotated:
        return _fields_of(typing.get_args(shape)[0])
    if origin in (typing.Union, types.UnionType):
        inner = [each for each in typing.get_args(shape) if each is not types.NoneType]
        return _fields_of(inner[0]) if len(inner) == 1 else None
    if shape in _SCALARS:
        return {}
    names = field_names(shape)
    return _hinted(shape, names) if names or dataclasses.is_dataclass(shape) else None


def _hinted(shape: Any, names: list[str]) -> dict[str, Any] | None:
    try:
        hints = typing.get_type_hints(shape, include_extras=True)
    except (NameError, TypeError):
        return None
    in_json: Iterable[str] = getattr(shape, "__struct_encode_fields__", names)
    if (validate := getattr(shape, "model_validate_json", None)) and not reads_names(validate):
        in_json = [shape.model_fields[name].alias or name for name in names]
    return {named: hints.get(name, Any) for name, named in zip(names, in_json, strict=True)}


def _named(args_type: Any) -> str:
    return getattr(args_type, "__qualname__", str(args_type))


NO_LIMITS: Final = Limits()
