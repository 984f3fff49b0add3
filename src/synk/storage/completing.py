"""The end of a job in the transaction of its handler, on whatever connection that has."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import psycopg

from synk.errors import ConfigurationError
from synk.storage.borrowing import in_utf8, in_utf8_awaited, synced, synced_awaited
from synk.storage.cursors import PlainAsyncCursor, PlainCursor
from synk.storage.lending import (
    async_connection_of,
    check_usable,
    connection_of,
    is_awaited,
    is_djangos,
    is_sqlalchemys,
)

if TYPE_CHECKING:
    from typing import LiteralString
    from uuid import UUID

    from synk.claim import Fence

_COLUMNS: Final[tuple[str, ...]] = ("id", "attempt", "owner", "claim_seq", "result")
_CALL: Final = (
    'SELECT "{}".complete(CAST({} AS bigint), CAST({} AS integer), CAST({} AS uuid),'
    " CAST({} AS bigint), CAST({} AS jsonb))"
)


class Completion:
    """The statement that completes a job, if the claim of it still holds.

    Args:
        schema: synk's schema.
        fence: the claim.
        owner: whose it is.
        result: the job's result, as JSON text.
    """

    def __init__(self, schema: str, fence: Fence, owner: UUID, result: str | None) -> None:
        self._schema = schema
        self._values = (fence.id, fence.attempt, str(owner), fence.claim_seq, result)

    def run(self, given: Any) -> bool:
        """Runs it on a connection or cursor; returns whether the job was completed.

        Raises:
            ConfigurationError: the connection has to be awaited, or cannot be used.
            Exception: what the connection raises.
        """
        if is_awaited(given):
            raise _to_be_awaited(given)
        if is_sqlalchemys(given) and hasattr(given, "scalar"):
            return bool(given.scalar(*self._for_sqlalchemy()))
        if is_djangos(given):
            with given.cursor() as cursor:
                return self._run_elsewhere(cursor)
        if isinstance(given, psycopg.Cursor):
            given = cast("psycopg.Cursor[Any]", given).connection
        if is_sqlalchemys(given) or isinstance(given, psycopg.Connection):
            return self._run_on(connection_of(given))
        return self._run_elsewhere(given)

    def _run_on(self, connection: psycopg.Connection[Any]) -> bool:
        with synced(connection):
            check_usable(connection, connection)
            with in_utf8(connection), PlainCursor(connection) as cursor:
                return _is_done(cursor.execute(self._text("%s"), self._values).fetchone())

    async def run_awaited(self, given: Any) -> bool:
        """The same on a connection for asyncio."""
        if is_sqlalchemys(given) and is_awaited(given):
            return bool(await given.scalar(*self._for_sqlalchemy()))
        if isinstance(given, psycopg.AsyncCursor):
            given = cast("psycopg.AsyncCursor[Any]", given).connection
        connection = await async_connection_of(given)
        async with synced_awaited(connection):
            check_usable(connection, connection)
            async with in_utf8_awaited(connection), PlainAsyncCursor(connection) as cursor:
                await cursor.execute(self._text("%s"), self._values)
                return _is_done(await cursor.fetchone())

    def _run_elsewhere(self, given: Any) -> bool:
        """Runs it through what may be of any driver."""
        if not hasattr(given, "execute"):
            raise ConfigurationError(
                "connection",
                given,
                "must be a psycopg.Connection, a session or connection of SQLAlchemy or Django, or "
                "a cursor",
            )
        done = given.execute(self._text("%s"), self._values)
        if inspect.isawaitable(done):
            if inspect.iscoroutine(done):
                done.close()
            raise _to_be_awaited(given)
        return _is_done((given if done is None else done).fetchone())

    def _for_sqlalchemy(self) -> tuple[object, dict[str, object]]:
        from sqlalchemy import text  # noqa: PLC0415 - who gives what is of it has it

        values: dict[str, object] = dict(zip(_COLUMNS, self._values, strict=True))
        return text(self._text(*(f":{name}" for name in _COLUMNS))), values

    def _text(self, *marks: str) -> LiteralString:
        marks = marks if len(marks) > 1 else marks * len(_COLUMNS)
        return cast("LiteralString", _CALL.format(self._schema, *marks))


def _is_done(row: Any) -> bool:
    if isinstance(row, Mapping):
        return any(cast("Mapping[Any, Any]", row).values())
    return bool(row) and bool(row[0])


def _to_be_awaited(given: object) -> ConfigurationError:
    return ConfigurationError(
        "connection", given, "has to be awaited: await job.complete_tx_async(connection)"
    )
