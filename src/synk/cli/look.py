"""``synk jobs`` and ``synk job``: what there is, and everything about one."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synk.cli.options import (
    DEFAULT_SCHEMA,
    JsonOption,
    SchemaOption,
    StorageOption,
    client_of,
)
from synk.failure import AttemptError
from synk.row import JobState

if TYPE_CHECKING:
    from rich.console import Console

    from synk.row import JobRow


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""

    @app.command()
    def jobs(
        *,
        state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
        queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.")] = None,
        kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
        as_json: JsonOption = False,
        storage: StorageOption = None,
        schema: SchemaOption = DEFAULT_SCHEMA,
    ) -> None:
        """List jobs, the newest first."""
        with client_of(storage, schema) as client:
            rows = client.storage.jobs(state=state, queue=queue, kind=kind, limit=limit)
        if as_json:
            typer.echo(json.dumps([as_dict(row) for row in rows], indent=2))
        else:
            _print_table(rows)

    @app.command()
    def job(
        job_id: Annotated[int, typer.Argument(metavar="ID", help="The job's id.")],
        *,
        as_json: JsonOption = False,
        storage: StorageOption = None,
        schema: SchemaOption = DEFAULT_SCHEMA,
    ) -> None:
        """Tell everything about one job, its failed attempts with their tracebacks."""
        from synk import show  # noqa: PLC0415 - rich takes its time to load

        with client_of(storage, schema) as client:
            row = client.get(job_id)
        if row is None:
            typer.echo(f"synk: there is no job {job_id}", err=True)
            raise typer.Exit(1)
        if as_json:
            typer.echo(json.dumps(as_dict(row), indent=2))
        else:
            console().print(show.job(row, dt.datetime.now(dt.UTC)))

    _ = (jobs, job)


def as_dict(row: JobRow) -> dict[str, Any]:
    """Returns the row for JSON: times as ISO text, durations as seconds."""
    return {each.name: _plain(getattr(row, each.name)) for each in dataclasses.fields(row)}


def _plain(value: Any) -> Any:
    match value:
        case dt.datetime():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case list():
            return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        case AttemptError():
            return value.to_dict()
        case _:
            return value


def console() -> Console:
    """Returns the console; where the output is no terminal, lines are not cut to 80 columns."""
    from rich.console import Console  # noqa: PLC0415 - as above

    plain = Console()
    return plain if plain.is_terminal else Console(width=200)


def _print_table(rows: list[JobRow]) -> None:
    from synk import show  # noqa: PLC0415 - as above

    if not rows:
        typer.echo("no jobs")
        return
    console().print(show.job_table(rows, dt.datetime.now(dt.UTC)))
