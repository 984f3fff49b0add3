"""``synk dsn``: what psql connects to the database with."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from synk.cli.options import StorageOption, storage_of


def dsn(
    *,
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep the embedded server up until Ctrl-C.")
    ] = False,
    storage: StorageOption = None,
) -> None:
    """Print what psql connects to the database with: psql "$(synk dsn)"."""
    with storage_of(storage) as database:
        typer.echo(database.conninfo())
        if not database.is_embedded:
            return
        end = "it stops with the last process that uses it; --serve keeps it up"
        typer.echo(f"{database.describe()}: {'up until Ctrl-C' if serve else end}", err=True)
    if not serve:
        return
    ending = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    signal.sigwait(ending)
