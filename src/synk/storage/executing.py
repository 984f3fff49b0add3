"""One statement on one connection; and the connection that does nothing but renew a lease."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from psycopg.rows import tuple_row

from synk.storage import migrate
from synk.storage.faults import translated

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from synk.status import Beat
    from synk.storage.statements import Statement

T = TypeVar("T")


class PostgresHeart:
    """Renews a lease, on a connection of its own.

    Args:
        connection: nothing else uses it.
        renewal: the statement.
        describe: says which database it is.
    """

    schema_version = migrate.LATEST

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        renewal: Statement[Beat | None],
        describe: Callable[[], str],
    ) -> None:
        self._connection = connection
        self._renewal = renewal
        self._describe = describe

    def beat(self) -> Beat | None:
        """See `Heart.beat`."""
        with translated(self._describe):
            return execute(self._connection, self._renewal)


def execute(connection: psycopg.Connection[Any], statement: Statement[T]) -> T:
    """Runs a statement; returns what its rows say."""
    with connection.cursor(binary=statement.binary, row_factory=tuple_row) as cursor:
        cursor.execute(statement.text, statement.parameters)
        rows = cursor.fetchall() if cursor.description is not None else []
        return statement.read(rows, cursor.rowcount)


def answer(statement: Statement[T], cursor: psycopg.Cursor[tuple[Any, ...]]) -> T:
    """Waits for the rows of a statement that was sent."""
    return statement.read(cursor.fetchall(), cursor.rowcount)
