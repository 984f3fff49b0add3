"""``synk cancel``, ``retry``, ``delete`` and ``ready``: one line for each id says what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from synk.cli import options
from synk.row import Change, check_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.storage.postgres import PostgresStorage


def _command(verb: str, done: str, about: str) -> click.Command:
    """Returns the command *verb*, which says *done* where it is, with *about* as its help."""

    @click.command(verb, help=about)
    @click.argument("ids", type=int, nargs=-1, required=True, metavar="ID...")
    @options.storage_option
    @options.schema_option
    def command(ids: tuple[int, ...], storage: str | None, schema: str) -> None:
        answers: list[Change] = []
        with options.storage_of(storage, schema) as database:
            act: Callable[[int], Change] = getattr(database, verb)
            for job_id in ids:
                answers.append(answer := act(check_id("job_id", job_id)))
                click.echo(f"job {job_id}: {_told(database, done, job_id, answer)}")
            if Change.GONE in answers:
                options.tell_of_hidden(database)
        if any(answer in (Change.REFUSED, Change.BLOCKED, Change.GONE) for answer in answers):
            raise click.exceptions.Exit(1)

    return command


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
        case Change.REFUSED:
            found = storage.get([job_id])
            return f"unchanged: it is {found[0].state}" if found else "it is gone"


cancel = _command("cancel", "cancelled", "Cancel jobs, running ones too.")
retry = _command("retry", "available again", "Make finished or scheduled jobs available at once.")
delete = _command("delete", "deleted", "Remove jobs that are not running.")
ready = _command("ready", "let go", "Let jobs go that are held in pending.")
