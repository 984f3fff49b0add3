"""``synk dsn``: what psql connects to the database with."""

from __future__ import annotations

import signal

import click

from synk.cli.options import storage_of, storage_option


@click.command()
@click.option("--serve", is_flag=True, help="Keep the embedded server up until Ctrl-C.")
@storage_option
def dsn(*, serve: bool, storage: str | None) -> None:
    """Print what psql connects with: psql "$(synk dsn)"."""
    with storage_of(storage) as database:
        click.echo(database.conninfo())
        if not database.is_embedded:
            return
        end = "it stops with the last process that uses it; --serve keeps it up"
        click.echo(f"{database.describe()}: {'up until Ctrl-C' if serve else end}", err=True)
    if not serve:
        return
    ending = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    signal.sigwait(ending)
