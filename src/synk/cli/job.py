"""``synk job``: everything about one job."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import click

from synk.cli import options
from synk.cli.records import as_record, print_json
from synk.row import JobState, check_id
from synk.status import nobody_knows, nobody_serves

if TYPE_CHECKING:
    from synk.row import JobRow
    from synk.storage.postgres import PostgresStorage

_LOOKED_FOR: Final = dt.timedelta(minutes=1)
"""Supervisors that were not seen for longer are not of interest."""


@click.command()
@click.argument("job_id", type=int, metavar="ID")
@options.json_option
@options.storage_option
@options.schema_option
def job(*, job_id: int, as_json: bool, storage: str | None, schema: str) -> None:
    """Tell everything about one job, with all tracebacks."""
    from synk.show.console import put  # noqa: PLC0415 - rich takes its time to load
    from synk.show.jobs import one_job  # noqa: PLC0415 - as above

    with options.storage_of(storage, schema) as database:
        found = database.get([check_id("job_id", job_id)])
        if not found:
            options.tell_of_hidden(database)
        problem = "" if as_json or not found else _why_it_waits(database, found[0])
    if not found:
        click.echo(f"synk: there is no job {job_id}", err=True)
        raise click.exceptions.Exit(1)
    if as_json:
        print_json(as_record(found[0]))
    else:
        put(one_job(found[0], dt.datetime.now(dt.UTC), problem=problem))


def _why_it_waits(storage: PostgresStorage, row: JobRow) -> str:
    """Says that no supervisor serves the queue of a job that waits, or knows its kind, if so."""
    if row.state.is_final or row.state is JobState.RUNNING:
        return ""
    living = [each for each in storage.clients(_LOOKED_FOR) if each.runs]
    serving = [each for each in living if row.queue in each.queues]
    if not serving:
        return nobody_serves(row.queue)
    if any(each.kinds is None or row.kind in each.kinds for each in serving):
        return ""
    return nobody_knows(row.kind, row.queue)
