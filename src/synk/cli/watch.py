"""``synk top`` and ``synk stack``: what runs now, and where it is."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Final

import typer

from synk.cli.keys import Keys
from synk.cli.look import console, put
from synk.cli.options import (
    DEFAULT_SCHEMA,
    SchemaOption,
    StorageOption,
    client_of,
    tell_of_hidden,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from synk.client import Client

_SHOWN_FOR: Final = dt.timedelta(minutes=10)
"""A supervisor that has vanished is shown for this long; so are the errors of one that stopped."""


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""

    @app.command()
    def top(
        *,
        every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
        once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
        storage: StorageOption = None,
        schema: SchemaOption = DEFAULT_SCHEMA,
    ) -> None:
        """Show supervisors, queues and workers live; q or Ctrl-C ends it."""
        terminal = console()
        with client_of(storage, schema) as client:
            tell_of_hidden(client)
            if once or not terminal.is_terminal:
                put(_picture(client))
                return
            from rich.live import Live  # noqa: PLC0415 - rich takes its time to load

            with (
                Keys() as keys,
                Live(console=terminal, screen=True, auto_refresh=False) as live,
            ):
                live.update(_picture(client, terminal.height), refresh=True)
                while not keys.ask_to_leave(every):
                    live.update(_picture(client, terminal.height), refresh=True)

    @app.command()
    def stack(
        job_id: Annotated[int, typer.Argument(metavar="ID", help="A running job's id.")],
        *,
        storage: StorageOption = None,
        schema: SchemaOption = DEFAULT_SCHEMA,
    ) -> None:
        """Show where a running job is in its code; with py-spy installed, also in C code."""
        with client_of(storage, schema) as client:
            text = client.stack(job_id)
        if text is None:
            typer.echo(f"synk: job {job_id} does not run", err=True)
            raise typer.Exit(1)
        typer.echo(text.rstrip("\n"))

    _ = (top, stack)


def _picture(client: Client, height: int | None = None) -> RenderableType:
    from synk import show_fleet  # noqa: PLC0415 - as above
    from synk.storage.postgres import PostgresStorage  # noqa: PLC0415 - `--help` needs no driver

    storage = client.storage
    seen = show_fleet.Fleet(
        database=storage.describe() if isinstance(storage, PostgresStorage) else repr(storage),
        clients=storage.clients(_SHOWN_FOR),
        backlog=storage.backlog(),
        unknown=storage.unknown_kinds(),
    )
    return show_fleet.fleet(seen, height=height)
