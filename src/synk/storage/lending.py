"""The caller's connection, by whatever name their library has for it."""

from __future__ import annotations

from typing import Any, Final, cast

import psycopg
from psycopg.pq import TransactionStatus

from synk.errors import ConfigurationError, StorageUnavailable

_SYNC: Final = (
    "must be a psycopg.Connection, or a session or connection of SQLAlchemy or Django on one"
)
_ASYNC: Final = (
    "must be a psycopg.AsyncConnection, or an AsyncSession or AsyncConnection of SQLAlchemy"
)

_OTHER_DRIVERS: Final = ("psycopg2", "asyncpg", "pg8000", "aiopg")


def connection_of(given: Any) -> psycopg.Connection[Any]:
    """Returns the psycopg connection of what the caller gave.

    Raises:
        ConfigurationError: there is none, or it is closed.
        StorageUnavailable: it is broken.
    """
    found = given
    if is_awaited(given):
        pass
    elif is_sqlalchemys(given):
        found = _of_sqlalchemy(given)
    elif is_djangos(given):
        found = _of_django(given)
    return _checked(given, found, psycopg.Connection, _SYNC)


async def async_connection_of(given: Any) -> psycopg.AsyncConnection[Any]:
    """Returns the awaited psycopg connection of what the caller gave.

    Raises:
        ConfigurationError: there is none, or it is closed.
        StorageUnavailable: it is broken.
    """
    found = given
    if is_sqlalchemys(given) and is_awaited(given):
        if hasattr(given, "get_raw_connection"):
            found = given
        elif hasattr(given, "connection"):
            # Of a session.
            found = await given.connection()
        if hasattr(found, "get_raw_connection"):
            if not found.in_transaction():
                await found.begin()
            found = (await found.get_raw_connection()).driver_connection
    return _checked(given, found, psycopg.AsyncConnection, _ASYNC)


def is_sqlalchemys(given: object) -> bool:
    """Whether it is of SQLAlchemy, or of a class that was made of one of its own."""
    return _is_of("sqlalchemy", given)


def is_djangos(given: object) -> bool:
    """Whether it is what Django calls a connection."""
    return hasattr(given, "ensure_connection")


def is_awaited(given: object) -> bool:
    """Whether it is one for asyncio."""
    return isinstance(given, (psycopg.AsyncConnection, psycopg.AsyncCursor)) or _is_of(
        "sqlalchemy.ext.asyncio", given
    )


def _is_of(package: str, given: object) -> bool:
    return any(
        f"{base.__module__}.".startswith(f"{package}.")
        for base in cast("type[Any]", type(given)).__mro__
    )


def _of_sqlalchemy(given: Any) -> object:
    if hasattr(given, "driver_connection"):
        # What engine.raw_connection() gives.
        return given.driver_connection
    if not hasattr(given, "connection"):
        return given
    # Of a session it is a method.
    connection: Any = given.connection() if callable(given.connection) else given
    if not connection.in_transaction():
        # As its own execute() does: else its commit would be none.
        connection.begin()
    return connection.connection.driver_connection


def _of_django(given: Any) -> object:
    given.ensure_connection()
    # As its own cursors do: what is done in a block that failed is undone, whatever comes after.
    given.validate_no_broken_transaction()
    return given.connection


def _checked(given: Any, found: Any, kind: Any, problem: str) -> Any:
    if not isinstance(found, kind):
        raise ConfigurationError("connection", given, problem + _hint(given, found, kind))
    if found.broken:
        raise StorageUnavailable(f"the given connection is broken: {found!r}")
    if found.closed:
        raise ConfigurationError("connection", given, "is closed")
    return found


def check_usable(given: object, connection: psycopg.BaseConnection[Any]) -> None:
    """Checks that something can be written through a connection.

    Raises:
        ConfigurationError: its transaction has failed, or may only read.
    """
    if connection.pgconn.transaction_status == TransactionStatus.INERROR:
        raise ConfigurationError(
            "connection", given, "its transaction has failed before: roll it back first"
        )
    if connection.read_only:
        raise ConfigurationError("connection", given, "its transactions are read-only")


def _hint(given: Any, found: Any, kind: type[Any]) -> str:
    driver = type(found).__module__.split(".")[0]
    if driver in _OTHER_DRIVERS:
        hint = (
            f"its driver is {driver}, with which a statement "  # noqa: S608 - words for people
            "of yours stores a job: INSERT INTO synk.job (name, kind, args) VALUES (...)"
        )
    elif isinstance(given, (psycopg.Cursor, psycopg.AsyncCursor)):
        hint = "give cursor.connection"
    elif hasattr(given, "getconn"):
        hint = "write `with pool.connection() as connection:` and give that"
    elif hasattr(given, "begin") and hasattr(given, "dispose"):
        hint = "write `with engine.begin() as connection:` and give that"
    elif kind is psycopg.Connection and is_awaited(given):
        hint = "this one is for AsyncClient"
    elif kind is psycopg.AsyncConnection and (
        isinstance(given, psycopg.Connection) or hasattr(given, "connection")
    ):
        hint = "this one is for Client"
    elif found is not given:
        hint = f"its driver is {driver}"
    else:
        return ""
    return f"; {hint}"
