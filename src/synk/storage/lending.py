"""The caller's connection, by whatever name their library has for it."""

from __future__ import annotations

from typing import Any, cast

import psycopg

from synk.errors import ConfigurationError

_SYNC = "must be a psycopg.Connection, or a session or connection of SQLAlchemy or Django on one"
_ASYNC = "must be a psycopg.AsyncConnection, or an AsyncSession or AsyncConnection of SQLAlchemy"


def connection_of(given: Any) -> psycopg.Connection[Any]:
    """Returns the psycopg connection of what the caller gave.

    Raises:
        ConfigurationError: there is none, or it is closed.
    """
    found = given
    awaited = hasattr(given, "sync_session") or hasattr(given, "sync_connection")
    if not awaited and _is_of("sqlalchemy", given) and hasattr(given, "connection"):
        # Of a session it is a method.
        found = _of_sqlalchemy(given.connection() if callable(given.connection) else given)
    elif hasattr(given, "ensure_connection"):
        given.ensure_connection()
        found = given.connection
    return _checked(given, found, psycopg.Connection, _SYNC)


async def async_connection_of(given: Any) -> psycopg.AsyncConnection[Any]:
    """Returns the awaited psycopg connection of what the caller gave.

    Raises:
        ConfigurationError: there is none, or it is closed.
    """
    found = given
    if _is_of("sqlalchemy", given):
        if hasattr(given, "sync_session"):
            found = await given.connection()
        if hasattr(found, "get_raw_connection"):
            if not found.in_transaction():
                await found.begin()
            found = (await found.get_raw_connection()).driver_connection
    return _checked(given, found, psycopg.AsyncConnection, _ASYNC)


def _is_of(package: str, given: object) -> bool:
    return any(base.__module__.split(".")[0] == package for base in type(given).__mro__)


def _of_sqlalchemy(connection: Any) -> object:
    if not connection.in_transaction():
        # As its own execute() does: else its commit would be none.
        connection.begin()
    return connection.connection.driver_connection


def _checked(given: Any, found: Any, kind: Any, problem: str) -> Any:
    if isinstance(found, kind):
        if found.closed:
            raise ConfigurationError("connection", given, "is closed")
        return found
    hint = (
        ""
        if found is given
        else f"; its driver is {cast('Any', type(found)).__module__.split('.')[0]}"
    )
    if (
        isinstance(found, (psycopg.Connection, psycopg.AsyncConnection))
        or hasattr(given, "sync_session")
        or hasattr(given, "sync_connection")
    ):
        other = "Client" if isinstance(found, psycopg.Connection) else "AsyncClient"
        hint = f"; this one is for {other}"
    elif isinstance(given, (psycopg.Cursor, psycopg.AsyncCursor)):
        hint = "; give cursor.connection"
    elif hasattr(given, "getconn"):
        hint = "; write `with pool.connection() as connection:` and give that"
    elif hasattr(given, "begin") and hasattr(given, "dispose"):
        hint = "; write `with engine.begin() as connection:` and give that"
    raise ConfigurationError("connection", cast("object", given), problem + hint)
