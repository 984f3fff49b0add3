"""``synk top``: what runs now, as supervisors report it to the database, and what waits there."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import click

from synk.cli import options
from synk.cli.keyboard import Keyboard

if TYPE_CHECKING:
    from synk.show.top import Overview
    from synk.storage.postgres import PostgresStorage

_SHOWN_FOR: Final = dt.timedelta(minutes=10)
"""A supervisor that has vanished is shown for this long; so are the errors of one that stopped."""


@click.command()
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Print it once and end.")
@options.storage_option
@options.schema_option
def top(*, every: float, once: bool, storage: str | None, schema: str) -> None:
    """Show supervisors, queues and workers live; q or Ctrl-C ends it."""
    from rich.live import Live  # noqa: PLC0415 - rich takes its time to load

    from synk.show.console import new_console, put  # noqa: PLC0415 - as above
    from synk.show.top import overview  # noqa: PLC0415 - as above

    console = new_console()
    with options.storage_of(storage, schema) as database:
        options.tell_of_hidden(database)
        if once or not console.is_terminal:
            put(overview(_seen(database)), console)
            return
        with (
            Keyboard() as keyboard,
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            live.update(overview(_seen(database), height=console.height), refresh=True)
            while not keyboard.ask_to_leave(every):
                live.update(overview(_seen(database), height=console.height), refresh=True)


def _seen(storage: PostgresStorage) -> Overview:
    from synk.queue_words import QueueWords  # noqa: PLC0415 - as above
    from synk.show.top import Overview  # noqa: PLC0415 - as above

    return Overview(
        database=storage.describe(),
        clients=storage.clients(_SHOWN_FOR),
        depths=storage.queue_depths(),
        unknown=storage.unknown_kinds(),
        words=QueueWords(storage.settings()),
    )
