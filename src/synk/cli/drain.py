"""``synk drain``: has a supervisor anywhere stop; it is told through the database."""

from __future__ import annotations

import click

from synk.cli.options import schema_option, storage_of, storage_option


@click.command()
@click.argument("supervisor", metavar="ID")
@click.option("--by", help="Who says so; by default the user and the machine.")
@storage_option
@schema_option
def drain(supervisor: str, by: str | None, storage: str | None, schema: str) -> None:
    """Have a supervisor stop, as SIGTERM has; ID as in synk top.

    It claims no more, lets running jobs finish, and ends. What has started it may start it anew.
    """
    from synk.queues import drain as drain_supervisor  # noqa: PLC0415 - `--help` needs none

    with storage_of(storage, schema) as database:
        runs = drain_supervisor(database, supervisor, by)
    if not runs:
        click.echo(f"synk: no supervisor {supervisor} runs", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"supervisor {supervisor} was told to stop")
