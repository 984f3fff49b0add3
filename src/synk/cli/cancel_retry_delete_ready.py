"""``synk cancel``, ``retry``, ``delete`` and ``ready``: one line for each id says what happened.

All but the last also take the jobs of a filter, see `synk.cli.many`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from synk.cli import options
from synk.cli.many import change_many, filter_of, many_options, says_how
from synk.row import Change, check_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.row import JobRow
    from synk.storage.postgres import PostgresStorage


_UNCHANGED = (Change.REFUSED, Change.BLOCKED, Change.NOT_UNIQUE, Change.GONE)


def _command(verb: str, done: str, about: str) -> click.Command:
    """Returns the command *verb*, which says *done* where it is, with *about* as its help."""

    @click.command(verb, help=about)
    @click.argument("ids", type=int, nargs=-1, required=True, metavar="ID...")
    @options.storage_option
    @options.schema_option
    def command(ids: tuple[int, ...], storage: str | None, schema: str) -> None:
        with options.storage_of(storage, schema) as database:
            _change(database, verb, done, ids)

    return command


def _command_for_many(verb: str, done: str, about: str) -> click.Command:
    """Returns the same for one that also takes all jobs of a filter."""

    @click.command(verb, help=f"{about} By their ids, or all that the options say.")
    @click.argument("ids", type=int, nargs=-1, metavar="[ID...]")
    @many_options
    @options.storage_option
    @options.schema_option
    def command(ids: tuple[int, ...], storage: str | None, schema: str, **given: Any) -> None:
        said = says_how(given)
        if ids and said:
            raise click.UsageError(f"give ids, or {', '.join(said)}, not both")
        if not ids and not said:
            raise click.UsageError("give the ids of jobs, or say which: --reason failed --since 1d")
        wanted = None if ids else filter_of(given)
        with options.storage_of(storage, schema) as database:
            if wanted is None:
                _change(database, verb, done, ids)
            else:
                change_many(database, verb, done, given, wanted)

    return command


def _change(database: PostgresStorage, verb: str, done: str, ids: tuple[int, ...]) -> None:
    answers: list[Change] = []
    act: Callable[[int], Change] = getattr(database, verb)
    for job_id in ids:
        answers.append(answer := act(check_id("job_id", job_id)))
        click.echo(f"job {job_id}: {_told(database, done, job_id, answer)}")
    if Change.GONE in answers:
        options.tell_of_hidden(database)
    if any(answer in _UNCHANGED for answer in answers):
        raise click.exceptions.Exit(1)


def _told(storage: PostgresStorage, done: str, job_id: int, answer: Change) -> str:
    match answer:
        case Change.APPLIED:
            return done
        case Change.REQUESTED:
            return "running; its supervisor was told to end it"
        case Change.TAKEN:
            return f"{done}; whoever runs it is no supervisor of synk, and was not told"
        case Change.BLOCKED:
            return "unchanged: a job that it depends on is cancelled or gone; retry that first"
        case Change.GONE:
            return "there is no such job"
        case Change.REFUSED | Change.NOT_UNIQUE:
            found = storage.get([job_id])
            return f"unchanged: {_hindrance(found[0], answer)}" if found else "it is gone"


def _hindrance(row: JobRow, answer: Change) -> str:
    if answer is Change.REFUSED:
        return f"it is {row.state}"
    if row.unique is not None and row.unique.job_id is not None:
        return f"job {row.unique.job_id} is in its unique scope"
    return "another job was in its unique scope, which is free by now: try again"


cancel = _command_for_many("cancel", "cancelled", "Cancel jobs, running ones too.")
retry = _command_for_many(
    "retry", "available again", "Make finished or scheduled jobs available at once."
)
delete = _command_for_many("delete", "deleted", "Remove jobs that are not running.")
ready = _command("ready", "let go", "Let jobs go that are held in pending.")
