"""The options that commands share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from synk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator

    from synk.storage.postgres import PostgresStorage

DSN_VARIABLE: Final = "SYNK_DATABASE_URL"

StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        envvar=DSN_VARIABLE,
        show_envvar=True,
        metavar="DSN",
        help="postgresql://..., or 'embedded' for a server that synk runs itself.",
    ),
]
SchemaOption = Annotated[str, typer.Option("--schema", help="The schema of synk's tables.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
IdsArgument = Annotated[list[int], typer.Argument(metavar="ID...", help="Ids of jobs.")]

DEFAULT_SCHEMA: Final = "synk"


@contextmanager
def storage_of(dsn: str | None, schema: str = DEFAULT_SCHEMA) -> Generator[PostgresStorage]:
    """Gives the storage for the options, with one connection, made at the first use.

    Raises:
        ConfigurationError: no database is named, or it is no DSN.
    """
    from synk.storage.postgres import PostgresStorage  # noqa: PLC0415 - `--help` needs no driver

    if not dsn:
        raise ConfigurationError(
            "storage",
            dsn,
            f"no database: give --storage DSN or set {DSN_VARIABLE} "
            "(--storage embedded for synk's own server)",
        )
    storage = PostgresStorage(dsn, schema=schema)
    storage.connector.is_pooled = False
    try:
        yield storage
    finally:
        storage.close()


def tell_of_hidden(storage: PostgresStorage) -> None:
    """Says on standard error that jobs may be hidden from the role that asks, if so."""
    if hidden := storage.hidden(from_readers=True):
        typer.echo(f"synk: {hidden}", err=True)
