"""What a worker says of all jobs of its kind: limits of its attempts, and what inserts default to.

Each option is an attribute of `Worker` and a keyword of ``@synk.worker``; one that inserts default
to is also a field of `InsertOptions`, by the same name. None of them says: as for other kinds.

A client applies the defaults when it inserts, if it has the worker. One without it, a trigger or
psql does not know them: such a job has the table's defaults.
"""

from __future__ import annotations

import datetime as dt
import inspect
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict

from synk.config import LONGEST_TIMEOUT
from synk.errors import ConfigurationError, InvalidJob
from synk.insertion import InsertOptions, JobOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from synk.job import Job
    from synk.limit import Limit
    from synk.row import Priority
    from synk.unique import Unique

NextRetry: TypeAlias = "Callable[[Job[Any], BaseException], dt.datetime | None]"
"""When to try a job again after an error; None: the default back-off."""

_BY_POSITION: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)

INSERT_OPTIONS: Final = ("queue", "priority", "max_retries", "tags", "keep", "unique")
"""Those that inserts default to."""


class WorkerOptions(TypedDict, total=False):
    """The keywords of ``@synk.worker``."""

    timeout: dt.timedelta | None
    soft_timeout: dt.timedelta | None
    max_rss: int | None
    next_retry: NextRetry | Callable[[Job[Any]], dt.datetime | None] | None
    queue: str | None
    priority: Priority | None
    max_retries: int | None
    tags: Collection[str] | None
    keep: dt.timedelta | None
    unique: Unique | None
    cores: int | None
    memory: int | str | None
    limit: Limit | None


def insert_defaults(said: Mapping[str, object], whose: object) -> JobOptions | None:
    """Returns what inserts of a kind default to; None: what those of other kinds do.

    Args:
        said: name -> value of options, of which those of `INSERT_OPTIONS` are looked at.
        whose: the worker that says it, for the error.

    Raises:
        ConfigurationError: a value cannot be inserted.
    """
    own: dict[str, Any] = {
        name: said[name] for name in INSERT_OPTIONS if said.get(name) is not None
    }
    if not own:
        return None
    try:
        return InsertOptions(**own).over(JobOptions())
    except InvalidJob as error:
        problem = f"{error.problem} (said by {whose!r})"
        raise ConfigurationError(error.field, error.value, problem) from None


def next_retry_of(method: Callable[..., dt.datetime | None], whose: object) -> NextRetry:
    """Returns *method*, to be called with the job and the error.

    One that takes the job alone is called with that, also where it has more parameters that have
    defaults; a second one by the name of ``error`` is given the error in any case.

    Raises:
        ConfigurationError: it can be called with neither.
    """
    try:
        signature = inspect.signature(method)
    except ValueError:
        # Written in C, and it does not say: it was always called with the job.
        return lambda job, _: method(job)
    named = [each for each in signature.parameters.values() if each.kind in _BY_POSITION]
    takes_error = len(named) > 1 and (
        named[1].name == "error" or named[1].default is inspect.Parameter.empty
    )
    try:
        signature.bind(*([None, None] if takes_error else [None]))
    except TypeError as error:
        problem = f"must take (job) or (job, error): {error} (said by {whose!r})"
        raise ConfigurationError("next_retry", method, problem) from None
    return method if takes_error else lambda job, _: method(job)


def check_plain(field: str, function: Callable[..., Any]) -> None:
    """Checks that a call of *function* does the work, and not only makes what would do it.

    Raises:
        ConfigurationError: it is async, or a generator.
    """
    name = getattr(function, "__qualname__", repr(function))
    for each in (function, getattr(type(function), "__call__", None)):  # noqa: B004 - not whether
        if inspect.iscoroutinefunction(each):
            problem = "is async: write `def`, and in it `return asyncio.run(...)` of what it awaits"
        elif inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            problem = "is a generator, which nothing would run: write a `def` without yield"
        else:
            continue
        raise ConfigurationError(field, name, problem)


def named_seconds(method: str, value: object) -> float | None:
    """Returns what a worker's *method* returned, in seconds.

    Raises:
        TypeError: it is no timedelta above zero, or above 30 days.
    """
    if value is None:
        return None
    if not isinstance(value, dt.timedelta) or not dt.timedelta(0) < value <= LONGEST_TIMEOUT:
        raise TypeError(
            f"{method}() returned {value!r}; it must be a timedelta above zero and up to 30 days"
        )
    return value.total_seconds()


def named_bytes(method: str, value: object) -> int | None:
    """Returns what a worker's *method* returned, in bytes.

    Raises:
        TypeError: it is no whole number above zero.
    """
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
        raise TypeError(f"{method}() returned {value!r}; it must be a number of bytes above zero")
    return value
