"""The options that commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from synk.errors import ConfigurationError

if TYPE_CHECKING:
    from synk.client import Client
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


def storage_of(dsn: str | None, schema: str) -> PostgresStorage:
    """Returns the storage for the options.

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
    return PostgresStorage(dsn, schema=schema)


def client_of(dsn: str | None, schema: str) -> Client:
    """Returns a client that only changes and looks.

    Raises:
        ConfigurationError: no database is named, or it is no DSN.
    """
    from synk.client import Client  # noqa: PLC0415 - as above

    return Client(storage=storage_of(dsn, schema))


def tell_of_hidden(client: Client) -> None:
    """Says on standard error that jobs may be hidden from the role that asks, if so."""
    from synk.storage.postgres import PostgresStorage  # noqa: PLC0415 - as above

    storage = client.storage
    if isinstance(storage, PostgresStorage) and (hidden := storage.hidden(from_readers=True)):
        typer.echo(f"synk: {hidden}", err=True)
