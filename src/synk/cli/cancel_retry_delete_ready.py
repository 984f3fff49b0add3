"""``synk cancel``, ``retry``, ``delete`` and ``ready``: one line for each id says what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from synk.cli.options import (
    DEFAULT_SCHEMA,
    IdsArgument,
    SchemaOption,
    StorageOption,
    storage_of,
    tell_of_hidden,
)
from synk.row import Change, check_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.storage.postgres import PostgresStorage

_DONE: Final = {
    "cancel": "cancelled",
    "retry": "available again",
    "delete": "deleted",
    "ready": "let go",
}


def cancel(
    ids: IdsArgument, storage: StorageOption = None, schema: SchemaOption = DEFAULT_SCHEMA
) -> None:
    """Cancel jobs, running ones too."""
    _change("cancel", ids, storage, schema)


def retry(
    ids: IdsArgument, storage: StorageOption = None, schema: SchemaOption = DEFAULT_SCHEMA
) -> None:
    """Make finished or scheduled jobs available at once."""
    _change("retry", ids, storage, schema)


def delete(
    ids: IdsArgument, storage: StorageOption = None, schema: SchemaOption = DEFAULT_SCHEMA
) -> None:
    """Remove jobs that are not running."""
    _change("delete", ids, storage, schema)


def ready(
    ids: IdsArgument, storage: StorageOption = None, schema: SchemaOption = DEFAULT_SCHEMA
) -> None:
    """Let jobs go that are held in pending."""
    _change("ready", ids, storage, schema)


def _change(verb: str, ids: list[int], dsn: str | None, schema: str) -> None:
    answers: list[Change] = []
    with storage_of(dsn, schema) as storage:
        act: Callable[[int], Change] = getattr(storage, verb)
        for job_id in ids:
            answers.append(answer := act(check_id("job_id", job_id)))
            typer.echo(f"job {job_id}: {_told(storage, verb, job_id, answer)}")
        if Change.GONE in answers:
            tell_of_hidden(storage)
    if any(answer in (Change.REFUSED, Change.BLOCKED, Change.GONE) for answer in answers):
        raise typer.Exit(1)


def _told(storage: PostgresStorage, verb: str, job_id: int, answer: Change) -> str:
    match answer:
        case Change.APPLIED:
            return _DONE[verb]
        case Change.REQUESTED:
            return "running; its supervisor was told to end it"
        case Change.TAKEN:
            return f"{_DONE[verb]}; whoever runs it is no supervisor of synk, and was not told"
        case Change.BLOCKED:
            return "unchanged: a job that it depends on is cancelled or gone; retry that first"
        case Change.GONE:
            return "there is no such job"
        case Change.REFUSED:
            found = storage.get([job_id])
            return f"unchanged: it is {found[0].state}" if found else "it is gone"
