"""Statements run on any connection, whatever it makes of rows and values elsewhere.

A connection that others use has cursors, rows and adapters as they like: rows as dicts, lists sent
as jsonb, numbers read as floats. And psycopg's adapters for all connections can be changed too. So
these cursors are psycopg's plain ones, with the adapters that psycopg itself comes with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.postgres import register_default_adapters, register_default_types
from psycopg.rows import TupleRow, dict_row, tuple_row
from psycopg.types import TypesRegistry
from psycopg.types.array import register_all_arrays

from synk.storage.faults import Unreadable, is_of_no_use, one_line

if TYPE_CHECKING:
    from synk.storage.statement import Statement

T = TypeVar("T")


def _plain_adapters() -> AdaptersMap:
    types = TypesRegistry()
    register_default_types(types)
    adapters = AdaptersMap(types=types)
    register_default_adapters(adapters)
    register_all_arrays(adapters)
    return adapters


_ADAPTERS: Final = _plain_adapters()
"""Made once, since nothing changes it: with a copy for each cursor one would cost more."""


class PlainCursor(psycopg.Cursor[TupleRow]):
    """A cursor that owes nothing to its connection but the way to the server."""

    def __init__(
        self, connection: psycopg.Connection[Any], *, row_factory: Any = tuple_row
    ) -> None:
        super().__init__(connection, row_factory=row_factory)

    @property
    def adapters(self) -> AdaptersMap:
        """See `psycopg.Cursor.adapters`."""
        return _ADAPTERS


class PlainAsyncCursor(psycopg.AsyncCursor[TupleRow]):
    """The same for asyncio."""

    def __init__(
        self, connection: psycopg.AsyncConnection[Any], *, row_factory: Any = tuple_row
    ) -> None:
        super().__init__(connection, row_factory=row_factory)

    @property
    def adapters(self) -> AdaptersMap:
        """See `psycopg.AsyncCursor.adapters`."""
        return _ADAPTERS


def run(connection: psycopg.Connection[Any], statement: Statement[T]) -> T:
    """Runs *statement*; returns its answer, also where others' statements are in a pipeline.

    Raises:
        Unreadable: it was run, and what it answered cannot be read.
    """
    with PlainCursor(connection, row_factory=_rows_of(statement)) as cursor:
        cursor.execute(statement.text, statement.parameters, binary=statement.binary)
        return answer(cursor, statement)


def answer(cursor: PlainCursor, statement: Statement[T]) -> T:
    """Returns the answer to a statement that was sent."""
    try:
        rows = cursor.fetchall() if _has_rows(cursor) else []
        return statement.read(rows, cursor.rowcount)
    except Exception as error:
        if _is_the_servers(error):
            raise
        raise Unreadable(f"{type(error).__name__}: {one_line(error)}") from error


async def run_awaited(connection: psycopg.AsyncConnection[Any], statement: Statement[T]) -> T:
    """See `run`."""
    async with PlainAsyncCursor(connection, row_factory=_rows_of(statement)) as cursor:
        await cursor.execute(statement.text, statement.parameters, binary=statement.binary)
        return await answer_awaited(cursor, statement)


async def answer_awaited(cursor: PlainAsyncCursor, statement: Statement[T]) -> T:
    """See `answer`."""
    try:
        rows = await cursor.fetchall() if _has_rows(cursor) else []
        return statement.read(rows, cursor.rowcount)
    except Exception as error:
        if _is_the_servers(error):
            raise
        raise Unreadable(f"{type(error).__name__}: {one_line(error)}") from error


def _rows_of(statement: Statement[Any]) -> Any:
    return dict_row if statement.by_name else tuple_row


def _has_rows(cursor: PlainCursor | PlainAsyncCursor) -> bool:
    # Without a result, it is still on its way through the pipeline.
    return cursor.pgresult is None or cursor.pgresult.nfields > 0


def _is_the_servers(error: Exception) -> bool:
    return isinstance(error, psycopg.Error) and (bool(error.sqlstate) or is_of_no_use(error))
