"""``synk job``: everything about one job."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Final

import typer

from synk.cli import options
from synk.cli.records import as_record, print_json
from synk.row import JobState
from synk.status import nobody_knows, nobody_serves

if TYPE_CHECKING:
    from synk.client import Client
    from synk.row import JobRow

_LOOKED_FOR: Final = dt.timedelta(minutes=1)
"""Supervisors that were not seen for longer are not of interest."""


def job(
    job_id: Annotated[int, typer.Argument(metavar="ID", help="The job's id.")],
    *,
    as_json: options.JsonOption = False,
    storage: options.StorageOption = None,
    schema: options.SchemaOption = options.DEFAULT_SCHEMA,
) -> None:
    """Tell everything about one job, its failed attempts with their tracebacks."""
    from synk.show.console import put  # noqa: PLC0415 - rich takes its time to load
    from synk.show.jobs import one_job  # noqa: PLC0415 - as above

    with options.client_of(storage, schema) as client:
        row = client.get(job_id)
        if row is None:
            options.tell_of_hidden(client)
        problem = "" if row is None or as_json else _why_it_waits(client, row)
    if row is None:
        typer.echo(f"synk: there is no job {job_id}", err=True)
        raise typer.Exit(1)
    if as_json:
        print_json(as_record(row))
    else:
        put(one_job(row, dt.datetime.now(dt.UTC), problem=problem))


def _why_it_waits(client: Client, row: JobRow) -> str:
    """Says that no supervisor serves the queue of a job that waits, or knows its kind, if so."""
    if row.state.is_final or row.state is JobState.RUNNING:
        return ""
    living = [each for each in client.storage.clients(_LOOKED_FOR) if each.runs]
    serving = [each for each in living if row.queue in each.queues]
    if not serving:
        return nobody_serves(row.queue)
    if any(each.kinds is None or row.kind in each.kinds for each in serving):
        return ""
    return nobody_knows(row.kind, row.queue)
