"""What ``synk cancel``, ``retry`` and ``delete`` do without ids: to all jobs of a filter."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from synk.bulk import Changes, JobFilter, check_selective
from synk.cli import options
from synk.errors import ConfigurationError
from synk.row import CancelReason, JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.storage.bulking import Verb
    from synk.storage.postgres import PostgresStorage

_FILTERS = (
    click.option("--state", **options.one_of(JobState), help="Jobs in this state."),
    click.option(
        "--reason", **options.one_of(CancelReason), help="Jobs that were cancelled for this reason."
    ),
    click.option("--kind", help="Jobs of this kind."),
    click.option("--queue", help="Jobs of this queue."),
    click.option("--tag", "tags", multiple=True, help="Jobs with this tag; again: with all."),
    click.option(
        "--since",
        metavar=options.AGE_OR_TIME,
        help="Jobs that ended since, or were inserted since: 30m, 12h, 1d, or a time.",
    ),
    click.option("--until", metavar=options.AGE_OR_TIME, help="Likewise, before then."),
    click.option("--from-id", type=click.IntRange(min=1), help="Jobs from this id on."),
    click.option("--to-id", type=click.IntRange(min=1), help="Jobs up to this id."),
    click.option("--error", help="Jobs whose last attempt failed with this exception or cause."),
)
_HOW = (
    click.option("--limit", type=click.IntRange(min=1), help="No more than so many."),
    click.option("--dry-run", is_flag=True, help="Only say how many there are."),
    click.option("--yes", is_flag=True, help="Do not ask."),
)


def many_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of a filter, and of what is done to its jobs."""
    for option in reversed((*_FILTERS, *_HOW)):
        command = option(command)
    return command


def filter_of(given: dict[str, Any]) -> JobFilter:
    """Returns the filter that the options say."""
    low, high = given["from_id"], given["to_id"]
    names = ("state", "reason", "kind", "queue", "tags", "error")
    said = {name: given[name] for name in names}
    for name in ("since", "until"):
        if given[name] is not None:
            said[name] = options.time_or_age(f"--{name}", given[name])
    if low is not None or high is not None:
        said["ids"] = (low or 1, high or 2**63 - 1)
    return JobFilter(**said)


def says_how(given: dict[str, Any]) -> list[str]:
    """Returns which of the options were given."""
    return [f"--{name.replace('_', '-')}" for name, value in given.items() if value]


def change_many(
    storage: PostgresStorage, verb: str, done: str, given: dict[str, Any], wanted: JobFilter
) -> None:
    """Counts, asks, changes, and says what became of them.

    Raises:
        ConfigurationError: nobody can be asked.
        click.exceptions.Exit: nobody wants it, or not all of them could be changed.
    """
    found = storage.count_many(check_selective(wanted))
    number = f"{found} {'job' if found.count == 1 else 'jobs'}"
    if given["limit"] is not None:
        number += f", no more than {given['limit']:,} of which"
    if given["dry_run"] or not found.count:
        options.tell_of_hidden(storage)
        click.echo(f"{number}: nothing was done")
        return
    if not given["yes"]:
        if not sys.stdin.isatty():
            problem = f"nobody can be asked here whether to {verb} {number}: give --yes"
            raise ConfigurationError("--yes", False, problem)
        click.confirm(f"{verb} {number}?", abort=True)
    told = _Told(done)
    name: Verb = f"{verb}_many"  # pyright: ignore[reportAssignmentType]
    with told:
        told.last = storage.change_many(
            name, found.filter, limit=given["limit"], progress=told.tell
        )
    if told.last.applied < told.last.looked:
        raise click.exceptions.Exit(1)


class _Told:
    """Says how far it is, on a terminal, and in the end what became of the jobs.

    Ctrl-C ends it between two transactions, a second one at once.
    """

    def __init__(self, done: str) -> None:
        self._done = done
        self._is_over = False
        self.last: Changes | None = None

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, *_: object) -> None:
        self._is_over = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def tell(self, changes: Changes) -> None:
        self.last = changes
        if sys.stderr.isatty():
            click.echo(f"\r{changes.looked:,} jobs", err=True, nl=False)
        if self._is_over:
            raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)
        if sys.stderr.isatty():
            click.echo("\r", err=True, nl=False)
        applied = 0 if self.last is None else self.last.applied
        rest = "" if self.last is None or applied == self.last.looked else f" ({self.last})"
        click.echo(f"{applied:,} {self._done}{rest}")
