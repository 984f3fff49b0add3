"""How a pool of the caller's makes its connections, followed for those that synk has besides it.

The heartbeat, listening and migrations need connections that nothing else uses, and would starve a
small pool if they were its own. They are made as the pool makes its own: with the conninfo and the
settings of that moment, which may be credentials that rotate, by its class, and configured by it.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import psycopg
import psycopg_pool
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.rows import tuple_row

from synk.errors import StorageUnavailable
from synk.storage.borrowing import UTF8, encoding_of, speak
from synk.storage.bounds import BoundedAsyncConnection, bound
from synk.storage.cursors import PlainCursor
from synk.storage.faults import one_line
from synk.storage.sessions import described

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

Pool: TypeAlias = "psycopg_pool.ConnectionPool[Any]"


def made_like(pool: Pool, *, answer_s: float) -> psycopg.Connection[Any]:
    """Returns a new connection, made as *pool* makes its own, in autocommit mode.

    Its rows are tuples, its cursors plain and its text Unicode, whatever the pool's are.

    Raises:
        psycopg.Error: it cannot be made.
        StorageUnavailable: what the pool was given to make one with has failed.
    """
    with _told_if_failed(pool):
        connection = pool.connection_class.connect(_conninfo(pool), **_kwargs(pool))
    try:
        _configure(pool, connection)
        connection.autocommit = True
        connection.row_factory = tuple_row
        connection.cursor_factory = PlainCursor
        if encoding_of(connection) != UTF8:
            speak(connection, UTF8)
    except Exception:
        connection.close()
        raise
    bound(connection, answer_s)
    return connection


def adopting(make: Callable[[], psycopg.Connection[Any]]) -> type[BoundedAsyncConnection]:
    """Returns a class of connections for asyncio that are made by *make*, in a thread.

    A pool's class and its `configure` know the other kind of connection only. What they have done
    to the session stays with it.
    """

    class AdoptedConnection(BoundedAsyncConnection):
        """The session of a connection that was made for threads."""

        @classmethod
        async def connect(cls, *_: Any, **__: Any) -> Self:
            """Returns a new connection, in autocommit mode."""
            made = await asyncio.to_thread(make)
            connection = cls(made.pgconn, tuple_row)
            connection.prepare_threshold = made.prepare_threshold
            # What was prepared is the session's.
            connection._prepared = made._prepared  # noqa: SLF001
            # Nor does the other one close it when it goes.
            del made.pgconn
            await connection.set_autocommit(True)
            return connection

    return AdoptedConnection


def pool_described(pool: Pool | psycopg_pool.AsyncConnectionPool[Any]) -> str | None:
    """Says which database a pool leads to, as far as its conninfo and settings tell.

    The functions of a pool for asyncio are not asked: they may have to be awaited.
    """
    if not isinstance(pool, psycopg_pool.ConnectionPool) and (
        callable(pool.conninfo) or callable(pool.kwargs)
    ):
        return None
    try:
        known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        settings = {name: value for name, value in _kwargs(pool).items() if name in known}
        return described(make_conninfo(_conninfo(pool), **settings))
    except Exception:  # noqa: BLE001 - the caller's functions, asked only to say a name
        return None


def _conninfo(pool: Any) -> str:
    return _now(pool.conninfo) or ""


def _kwargs(pool: Any) -> dict[str, Any]:
    return {**(_now(pool.kwargs) or {})}


def _now(given: Any) -> Any:
    """Returns what a setting is at this moment."""
    return given() if callable(given) else given


def _configure(pool: Pool, connection: psycopg.Connection[Any]) -> None:
    # The only one of its settings that a pool keeps to itself.
    configure = cast("Callable[[Any], None] | None", getattr(pool, "_configure", None))
    if configure is None:
        return
    with _told_if_failed(pool):
        configure(connection)
    status = connection.pgconn.transaction_status
    if status != pq.TransactionStatus.IDLE:
        # As the pool itself sees it.
        raise StorageUnavailable(
            f"configure of the given pool {pool.name!r} left a connection in status "
            f"{pq.TransactionStatus(status).name}: have it commit"
        )


@contextmanager
def _told_if_failed(pool: Pool) -> Generator[None]:
    """Says that what the pool was given to make a connection with has failed."""
    try:
        yield
    except psycopg.Error:
        raise
    except Exception as error:
        raise StorageUnavailable(
            f"the given pool {pool.name!r} has no way to make a connection: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
