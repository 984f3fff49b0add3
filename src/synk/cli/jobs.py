"""``synk jobs``: a list of jobs."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import click

from synk.cli import options
from synk.cli.records import as_record, print_json
from synk.row import CancelReason, JobState, check_tags

if TYPE_CHECKING:
    from synk.row import JobList, ListedJob


@click.command()
@click.option("--state", **options.one_of(JobState), help="Only jobs in this state.")
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--kind", help="Only jobs of this kind.")
@click.option(
    "--reason",
    **options.one_of(CancelReason),
    help="Only jobs that were cancelled for this reason, as failed.",
)
@click.option(
    "--since",
    metavar=options.AGE_OR_TIME,
    help="Only jobs that ended since, or were inserted since if they have not: "
    "30m, 12h, 1d, 2w, or a time as 2026-11-27T14:00.",
)
@click.option(
    "--tag", multiple=True, help="Only jobs with this tag; given again, with all of them."
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="At most so many.",
)
@options.json_option
@options.storage_option
@options.schema_option
def jobs(  # noqa: PLR0913 - the filters, all by name
    *,
    state: JobState | None,
    queue: str | None,
    kind: str | None,
    reason: CancelReason | None,
    since: str | None,
    tag: tuple[str, ...],
    limit: int,
    as_json: bool,
    storage: str | None,
    schema: str,
) -> None:
    """List jobs, the newest first."""
    with options.storage_of(storage, schema) as database:
        rows = database.jobs(
            state=state,
            queue=queue,
            kind=kind,
            # One more than is shown, which tells whether there is more.
            limit=limit + 1,
            reason=reason,
            since=None if since is None else options.time_or_age("--since", since),
            tags=check_tags(tag, "--tag"),
        )
        options.tell_of_hidden(database)
    if as_json:
        print_json([as_record(row) for row in rows[:limit]])
    else:
        _print_table(rows[:limit])
    _tell_of_more(rows, limit)


def _tell_of_more(rows: JobList, limit: int) -> None:
    if len(rows) > limit:
        click.echo(f"synk: there are more than these {limit}: see --limit", err=True)
    elif rows.searched is not None:
        click.echo(
            f"synk: looked at the last {rows.searched:,} jobs only, there may be more", err=True
        )


def _print_table(rows: list[ListedJob]) -> None:
    from synk.show.console import columns_of, new_console, put  # noqa: PLC0415 - rich takes time
    from synk.show.jobs import job_table  # noqa: PLC0415 - as above

    if not rows:
        click.echo("no jobs")
        return
    console = new_console()
    put(job_table(rows, dt.datetime.now(dt.UTC), width=columns_of(console)), console)
