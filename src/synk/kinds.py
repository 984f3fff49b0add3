"""What a worker says of all jobs of its kind: limits of its attempts, and what inserts default to.

Each option is an attribute of `Worker` and a keyword of ``@synk.worker``; one that inserts default
to is also a field of `InsertOptions`, by the same name. None of them says: as for other kinds.

A client applies the defaults when it inserts, if it has the worker. One without it, a trigger or
psql does not know them: such a job has the table's defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict

from synk.errors import ConfigurationError, InvalidJob
from synk.insertion import InsertOptions, JobOptions

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Collection, Mapping

    from synk.job import Job
    from synk.row import Priority

INSERT_OPTIONS: Final = ("queue", "priority", "max_retries", "tags", "keep")
"""Those that inserts default to."""


class WorkerOptions(TypedDict, total=False):
    """The keywords of ``@synk.worker``."""

    timeout: dt.timedelta | None
    soft_timeout: dt.timedelta | None
    max_rss: int | None
    next_retry: Callable[[Job[Any]], dt.datetime | None] | None
    queue: str | None
    priority: Priority | None
    max_retries: int | None
    tags: Collection[str] | None
    keep: dt.timedelta | None


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
