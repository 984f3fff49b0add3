"""Jobs on their way into a storage: checked, before anything is sent.

What `Client` and `AsyncClient` share, which differ in how they wait.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from synk.arguments import encode_args
from synk.errors import ConfigurationError, InvalidJob
from synk.insertion import InsertOptions, NewJob, check_label

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

JobSpec: TypeAlias = "tuple[str, Any] | tuple[str, Any, InsertOptions]"
"""One job for `insert_many`: (name, args) or (name, args, options)."""

_DEFAULT_OPTIONS: Final = InsertOptions()


def new_job(name: str, args: Any, options: InsertOptions | None) -> NewJob:
    """Returns the checked job.

    Raises:
        InvalidJob: a value is wrong, named with its field.
    """
    check_label("name", name)
    if options is not None and not isinstance(options, InsertOptions):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidJob("options", options, "must be InsertOptions")
    options = options or _DEFAULT_OPTIONS
    kind, text = encode_args(args, in_order=options.idempotency_key is not None)
    return NewJob(name=name, kind=kind, args=text, options=options)


def new_jobs(jobs: Iterable[JobSpec]) -> list[NewJob]:
    """Returns the checked jobs of `Client.insert_many`.

    Raises:
        InvalidJob: one of them is wrong.
    """
    checked: list[NewJob] = []
    for index, job in enumerate(jobs):
        if not isinstance(job, tuple) or not 2 <= len(job) <= 3:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidJob(f"jobs[{index}]", job, "must be (name, args) or (name, args, options)")
        checked.append(new_job(job[0], job[1], job[2] if len(job) == 3 else None))
    optioned = [job.options for job in checked if job.options is not _DEFAULT_OPTIONS]
    for key, count in Counter(options.idempotency_key for options in optioned).items():
        if key is not None and count > 1:
            raise InvalidJob("idempotency_key", key, f"is that of {count} jobs of one insert")
    return checked


def check_given(connection: object) -> None:
    """Checks that there is a connection.

    Raises:
        ConfigurationError: there is none.
    """
    if connection is None:
        raise ConfigurationError(
            "connection", None, "give the connection of your transaction; `insert` needs none"
        )


def check_no_wait(connection: object | None, wait: dt.timedelta | None) -> None:
    """Checks that no wait is asked for in the caller's own transaction.

    Raises:
        ConfigurationError: one is.
    """
    if connection is not None and wait is not None:
        raise ConfigurationError(
            "wait", wait, "not with a connection: only its owner can repeat its transaction"
        )
