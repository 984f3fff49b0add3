"""A connection that somebody lends: made ready for statements of synk's, and left as it was."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from synk.errors import StorageConflict
from synk.storage.cursors import PlainAsyncCursor, PlainCursor
from synk.storage.faults import told_if_unknown, translated
from synk.storage.lending import async_connection_of, check_usable, connection_of
from synk.storage.sessions import described_session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

UTF8: Final = "UTF8"
_SPEAK: Final = "SELECT set_config('client_encoding', %s, false)"
_BEGIN: Final = "SELECT"

_BUSY_S: Final = 30.0
"""How long others may use a connection."""


@contextmanager
def lent(given: Any, *, as_one: bool) -> Generator[psycopg.Connection[Any]]:
    """Lends the psycopg connection of what the caller gave; translates errors.

    Args:
        given: what the caller has for a connection.
        as_one: whether there will be several statements, which are to hold all or none.

    Raises:
        ConfigurationError: there is none that can be used.
        psycopg.Error: what the caller sent before, in a pipeline, has failed.
    """
    connection = connection_of(given)
    describe = partial(described_session, connection)
    with ExitStack() as back:
        back.enter_context(synced(connection))
        check_usable(given, connection)
        back.enter_context(translated(describe))
        if connection.autocommit and _is_idle(connection):
            back.enter_context(told_if_unknown(describe))
        back.enter_context(in_utf8(connection))
        if as_one:
            if not connection.autocommit and _is_idle(connection):
                # By the caller's own first statement, so that the end is theirs too.
                back.enter_context(PlainCursor(connection)).execute(_BEGIN)
            back.enter_context(connection.transaction())
        yield connection


@contextmanager
def synced(connection: psycopg.Connection[Any]) -> Generator[None]:
    """Where statements are in a pipeline, those before are over, and those within too at its end.

    Raises:
        psycopg.Error: one before has failed.
        StorageConflict: others use the connection all the time.
    """
    # psycopg itself waits without end, also for the stream of a caller that waits here.
    if not connection.lock.acquire(timeout=_BUSY_S):
        raise _is_busy(connection)
    connection.lock.release()
    with ExitStack() as back:
        if connection.pgconn.pipeline_status:
            # Itself it does so only where something is on its way, not where something has failed.
            back.enter_context(connection.pipeline()).sync()
        yield


@contextmanager
def in_utf8(connection: psycopg.Connection[Any], *, of_pool: bool = False) -> Generator[None]:
    """Has any text pass through a connection, whatever encoding its owner chose.

    In the caller's transaction, which takes it back if it fails; on a connection of a pool apart,
    so that what comes is a transaction by itself.
    """
    before = encoding_of(connection)
    if before == UTF8:
        yield
        return
    speak(connection, UTF8, apart=of_pool)
    try:
        yield
    finally:
        with suppress(psycopg.Error):
            if of_pool and _has_failed(connection):
                connection.rollback()
            speak(connection, before, apart=of_pool)


def speak(connection: psycopg.Connection[Any], encoding: str, *, apart: bool = False) -> None:
    """Has text pass through a connection in *encoding* from now on."""
    with (
        connection.transaction() if apart else synced(connection),
        PlainCursor(connection) as cursor,
    ):
        cursor.execute(_SPEAK, (encoding,))


def encoding_of(connection: psycopg.BaseConnection[Any]) -> str:
    """Returns PostgreSQL's name of what a connection's text is sent in."""
    return (connection.pgconn.parameter_status(b"client_encoding") or b"").decode()


def _is_idle(connection: psycopg.BaseConnection[Any]) -> bool:
    return connection.pgconn.transaction_status == TransactionStatus.IDLE


def _is_busy(connection: psycopg.BaseConnection[Any]) -> StorageConflict:
    return StorageConflict(
        f"the given connection was busy for {_BUSY_S:g} s, with a stream or a COPY that is not "
        f"over, or a statement of somebody else's: give another one ({connection!r})"
    )


def _has_failed(connection: psycopg.BaseConnection[Any]) -> bool:
    return connection.pgconn.transaction_status == TransactionStatus.INERROR


# -- the same for asyncio -------------------------------------------------------------------------


@asynccontextmanager
async def lent_awaited(given: Any, *, as_one: bool) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
    """See `lent`."""
    connection = await async_connection_of(given)
    describe = partial(described_session, connection)
    async with AsyncExitStack() as back:
        await back.enter_async_context(synced_awaited(connection))
        check_usable(given, connection)
        back.enter_context(translated(describe))
        if connection.autocommit and _is_idle(connection):
            back.enter_context(told_if_unknown(describe))
        await back.enter_async_context(in_utf8_awaited(connection))
        if as_one:
            if not connection.autocommit and _is_idle(connection):
                await (await back.enter_async_context(PlainAsyncCursor(connection))).execute(_BEGIN)
            await back.enter_async_context(connection.transaction())
        yield connection


@asynccontextmanager
async def synced_awaited(connection: psycopg.AsyncConnection[Any]) -> AsyncGenerator[None]:
    """See `synced`."""
    try:
        async with asyncio.timeout(_BUSY_S):
            await connection.lock.acquire()
    except TimeoutError:
        raise _is_busy(connection) from None
    connection.lock.release()
    async with AsyncExitStack() as back:
        if connection.pgconn.pipeline_status:
            await (await back.enter_async_context(connection.pipeline())).sync()
        yield


@asynccontextmanager
async def in_utf8_awaited(
    connection: psycopg.AsyncConnection[Any], *, of_pool: bool = False
) -> AsyncGenerator[None]:
    """See `in_utf8`."""
    before = encoding_of(connection)
    if before == UTF8:
        yield
        return
    await _speak_awaited(connection, UTF8, apart=of_pool)
    try:
        yield
    finally:
        with suppress(psycopg.Error):
            if of_pool and _has_failed(connection):
                await connection.rollback()
            await _speak_awaited(connection, before, apart=of_pool)


async def _speak_awaited(
    connection: psycopg.AsyncConnection[Any], encoding: str, *, apart: bool
) -> None:
    async with (
        connection.transaction() if apart else synced_awaited(connection),
        PlainAsyncCursor(connection) as cursor,
    ):
        await cursor.execute(_SPEAK, (encoding,))
