"""The options that commands share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from synk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator
    from enum import StrEnum

    from synk.storage.postgres import PostgresStorage

DSN_VARIABLE: Final = "SYNK_DATABASE_URL"

_DEFAULT_SCHEMA: Final = "synk"

storage_option = click.option(
    "--storage",
    envvar=DSN_VARIABLE,
    show_envvar=True,
    metavar="DSN",
    help="postgresql://..., or 'embedded' for a server that synk runs itself.",
)
schema_option = click.option(
    "--schema", default=_DEFAULT_SCHEMA, show_default=True, help="The schema of synk's tables."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def one_of(members: type[StrEnum]) -> dict[str, Any]:
    """Returns what an option is given whose value is that of a member of an enumeration."""

    def member(_context: object, _option: object, value: str | None) -> StrEnum | None:
        return None if value is None else members(value)

    return {"type": click.Choice([str(each.value) for each in members]), "callback": member}


@contextmanager
def storage_of(dsn: str | None, schema: str = _DEFAULT_SCHEMA) -> Generator[PostgresStorage]:
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
        click.echo(f"synk: {hidden}", err=True)
