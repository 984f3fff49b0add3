"""``synk jobs`` and ``synk job``: what there is, and everything about one."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from synk.cli.options import (
    DEFAULT_SCHEMA,
    JsonOption,
    SchemaOption,
    StorageOption,
    client_of,
    tell_of_hidden,
)
from synk.errors import ConfigurationError
from synk.failure import AttemptError
from synk.row import CancelReason, JobState
from synk.status import nobody_knows

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from synk.client import Client
    from synk.row import JobList, JobRow, KindSummary


_LOOKED_FOR: Final = dt.timedelta(minutes=1)
"""Supervisors that were not seen for longer are not of interest."""

_UNITS: Final = {
    "s": dt.timedelta(seconds=1),
    "m": dt.timedelta(minutes=1),
    "h": dt.timedelta(hours=1),
    "d": dt.timedelta(days=1),
    "w": dt.timedelta(weeks=1),
}


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""

    @app.command()
    def jobs(  # noqa: PLR0913 - the filters, all by name
        *,
        state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
        queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.")] = None,
        kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
        reason: Annotated[
            CancelReason | None,
            typer.Option(help="Only jobs that were cancelled for this reason, as failed."),
        ] = None,
        since: Annotated[
            str | None,
            typer.Option(
                metavar="AGE|TIME",
                help="Only jobs that ended since, or were inserted since if they have not: "
                "30m, 12h, 1d, 2w, or a time as 2026-11-27T14:00.",
            ),
        ] = None,
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
        as_json: JsonOption = False,
        storage: StorageOption = None,
        schema: SchemaOption = DEFAULT_SCHEMA,
    ) -> None:
        """List jobs, the newest first."""
        with client_of(storage, schema) as client:
            rows = client.storage.jobs(
                state=state,
                queue=queue,
                kind=kind,
                # One more than is shown, which tells whether there is more.
                limit=limit + 1,
                reason=reason,
                since=None if since is None else time_or_age(since),
            )
            tell_of_hidden(client)
        if as_json:
            typer.echo(json.dumps([as_dict(row) for row in rows[:limit]], indent=2))
        else:
            _print_table(rows[:limit])
        _tell_of_more(rows, limit)

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
                tell_of_hidden(client)
            problem = "" if row is None or as_json else _nobody_serves(client, row)
        if row is None:
            typer.echo(f"synk: there is no job {job_id}", err=True)
            raise typer.Exit(1)
        if as_json:
            typer.echo(json.dumps(as_dict(row), indent=2))
        else:
            put(show.job(row, dt.datetime.now(dt.UTC), problem=problem))

    _ = (jobs, job)


def as_dict(row: JobRow | KindSummary) -> dict[str, Any]:
    """Returns a record for JSON: times as ISO text, durations as seconds."""
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


def put(shown: RenderableType) -> None:
    """Prints something; where the output is no terminal, without blanks that only fill a line."""
    from synk import show  # noqa: PLC0415 - as above

    show.put(console(), shown)


def _nobody_serves(client: Client, row: JobRow) -> str:
    """Says that no supervisor serves a waiting job's queue, or knows its kind, if so."""
    if row.state.is_final or row.state is JobState.RUNNING:
        return ""
    living = [each for each in client.storage.clients(_LOOKED_FOR) if each.runs]
    serving = [each for each in living if row.queue in each.queues]
    if not serving:
        queue = "".join(each if each.isprintable() else "\ufffd" for each in row.queue)
        return f"no supervisor serves queue {queue}"
    if any(each.kinds is None or row.kind in each.kinds for each in serving):
        return ""
    return nobody_knows(row.kind, row.queue)


def time_or_age(text: str) -> dt.datetime | dt.timedelta:
    """Returns what ``--since`` says.

    Raises:
        ConfigurationError: it is neither an age nor a time.
    """
    if text[:-1].isdecimal() and text[-1] in _UNITS and len(text) < 7:
        return int(text[:-1]) * _UNITS[text[-1]]
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        problem = "must be an age, as 30m, 12h, 1d or 2w, or a time, as 2026-11-27T14:00"
        raise ConfigurationError("--since", text, problem) from None
    # A time without a zone is that of who asks.
    return when.astimezone()


def _tell_of_more(rows: JobList, limit: int) -> None:
    if len(rows) > limit:
        typer.echo(f"synk: there are more than these {limit}: see --limit", err=True)
    elif rows.searched is not None:
        typer.echo(
            f"synk: looked at the last {rows.searched:,} jobs only; --since looks at all that have "
            "ended since",
            err=True,
        )


def _print_table(rows: list[JobRow]) -> None:
    from synk import show  # noqa: PLC0415 - as above

    if not rows:
        typer.echo("no jobs")
        return
    terminal = console()
    width = terminal.width if terminal.is_terminal else None
    put(show.job_table(rows, dt.datetime.now(dt.UTC), width=width))
