"""The options that commands share."""

from __future__ import annotations

import datetime as dt
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

AGE_OR_TIME: Final = "AGE|TIME"

_UNITS: Final = {
    "s": dt.timedelta(seconds=1),
    "m": dt.timedelta(minutes=1),
    "h": dt.timedelta(hours=1),
    "d": dt.timedelta(days=1),
    "w": dt.timedelta(weeks=1),
}

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


def time_or_age(option: str, text: str) -> dt.datetime | dt.timedelta:
    """Returns what an option such as ``--since`` says.

    Raises:
        ConfigurationError: it is neither an age nor a time.
    """
    if text[:-1].isdecimal() and text[-1] in _UNITS and len(text) < 7:
        return int(text[:-1]) * _UNITS[text[-1]]
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        problem = "must be an age, as 30m, 12h, 1d or 2w, or a time, as 2026-11-27T14:00"
        raise ConfigurationError(option, text, problem) from None
    # A time without a zone is that of who asks.
    return when.astimezone()


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
