"""The same statements as `synk.storage.postgres`, awaited: what an asyncio producer needs."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import psycopg
import psycopg_pool
from psycopg.rows import tuple_row

from synk.errors import ConfigurationError, OutcomeUnknown, StorageConflict
from synk.storage.connecting import (
    CONNECT_S,
    POOL_CONNECTIONS_MAX,
    BoundedAsyncConnection,
    is_alive,
)
from synk.storage.faults import is_of_no_use, told_if_unknown, translated
from synk.storage.inserting import insert_statements, may_be_repeated, pauses_before_repeats

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from synk.insertion import NewJob
    from synk.row import Change, JobRow
    from synk.storage.postgres import PostgresStorage
    from synk.storage.statements import Statement

T = TypeVar("T")


class AsyncPostgresStorage:
    """Where an `AsyncClient` keeps its jobs; on the same database and schema as *storage*.

    It opens its pool at the first use, and belongs to the event loop of that use.
    """

    def __init__(self, storage: PostgresStorage) -> None:
        self._storage = storage
        self._statements = storage.statements
        self._pool: psycopg_pool.AsyncConnectionPool[Any] | None = None
        self._opening = asyncio.Lock()

    async def insert(
        self, jobs: Sequence[NewJob], *, connection: object | None = None
    ) -> list[int]:
        """See `Storage.insert`; *connection* is a `psycopg.AsyncConnection` of the caller's."""
        if connection is not None:
            if not isinstance(connection, psycopg.AsyncConnection):
                raise ConfigurationError(
                    "connection", connection, "must be a psycopg.AsyncConnection"
                )
            with translated(self._storage.describe):
                own = cast("psycopg.AsyncConnection[Any]", connection)
                return await self._insert_on(own, jobs)
        for pause_s in pauses_before_repeats():
            try:
                return await self._insert_once(jobs)
            except (OutcomeUnknown, StorageConflict) as error:
                if not may_be_repeated(error, jobs):
                    raise
            await asyncio.sleep(pause_s)
        return await self._insert_once(jobs)

    async def _insert_once(self, jobs: Sequence[NewJob]) -> list[int]:
        async with self._connection() as own:
            with told_if_unknown(self._storage.describe):
                if len(jobs) == 1:
                    return await self._insert_on(own, jobs)
                async with own.transaction():
                    if self._storage.is_pipelined(jobs):
                        return await self._insert_pipelined(own, jobs)
                    return await self._insert_on(own, jobs)

    async def _insert_on(
        self, connection: psycopg.AsyncConnection[Any], jobs: Sequence[NewJob]
    ) -> list[int]:
        ids: list[int] = []
        for statement in insert_statements(self._statements, jobs):
            ids += await _execute(connection, statement)
        return ids

    async def _insert_pipelined(
        self, connection: psycopg.AsyncConnection[Any], jobs: Sequence[NewJob]
    ) -> list[int]:
        """See `PostgresStorage`."""
        ids: list[int] = []
        async with connection.pipeline(), AsyncExitStack() as cursors:
            sent: deque[tuple[Statement[list[int]], psycopg.AsyncCursor[tuple[Any, ...]]]] = deque()
            for statement in insert_statements(self._statements, jobs):
                cursor = connection.cursor(binary=statement.binary, row_factory=tuple_row)
                await cursors.enter_async_context(cursor)
                await cursor.execute(statement.text, statement.parameters)
                sent.append((statement, cursor))
                if len(sent) > 1:
                    ids += await _answer(*sent.popleft())
            for each in sent:
                ids += await _answer(*each)
        return ids

    async def cancel(self, job_id: int) -> Change:
        """See `Storage.cancel`."""
        return await self._run(self._statements.cancel(job_id))

    async def retry(self, job_id: int) -> Change:
        """See `Storage.retry`."""
        return await self._run(self._statements.retry(job_id))

    async def delete(self, job_id: int) -> Change:
        """See `Storage.delete`."""
        return await self._run(self._statements.delete(job_id))

    async def ready(self, job_id: int) -> Change:
        """See `Storage.ready`."""
        return await self._run(self._statements.ready(job_id))

    async def get(self, job_ids: Sequence[int]) -> list[JobRow]:
        """See `Storage.get`."""
        return await self._run(self._statements.get(job_ids))

    async def close(self) -> None:
        """Gives up the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def _run(self, statement: Statement[T]) -> T:
        async with self._connection() as connection:
            return await _execute(connection, statement)

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        """Lends a connection of the pool; translates errors, and drops the pool as they say."""
        with translated(self._storage.describe):
            try:
                async with self._lent() as connection:
                    yield connection
            except (psycopg.Error, OutcomeUnknown) as error:
                if isinstance(error, OutcomeUnknown) or is_of_no_use(error):
                    await self._drop_pool()
                raise

    @asynccontextmanager
    async def _lent(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        async with AsyncExitStack() as lent:
            connection = await self._lend(lent)
            if not is_alive(connection):
                await lent.aclose()
                await self._drop_pool()
                connection = await self._lend(lent)
            yield connection

    async def _lend(self, lent: AsyncExitStack) -> psycopg.AsyncConnection[Any]:
        pool = await self._opened_pool()
        try:
            return await lent.enter_async_context(pool.connection(timeout=CONNECT_S))
        except psycopg_pool.PoolClosed:
            # Another task has given it up since; that is no trouble of this one.
            pool = await self._opened_pool()
            return await lent.enter_async_context(pool.connection(timeout=CONNECT_S))

    async def _drop_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(timeout=0)

    async def _opened_pool(self) -> psycopg_pool.AsyncConnectionPool[Any]:
        async with self._opening:
            if self._pool is None:
                conninfo, options = await asyncio.to_thread(self._storage.connect_arguments)
                first = await BoundedAsyncConnection.connect(conninfo, autocommit=True, **options)
                await first.close()
                pool: psycopg_pool.AsyncConnectionPool[Any] = psycopg_pool.AsyncConnectionPool(
                    conninfo,
                    connection_class=BoundedAsyncConnection,
                    kwargs={"autocommit": True, **options},
                    min_size=1,
                    max_size=POOL_CONNECTIONS_MAX,
                    open=False,
                    name="synk-async",
                )
                await pool.open()
                self._pool = pool
            return self._pool


async def _execute(connection: psycopg.AsyncConnection[Any], statement: Statement[T]) -> T:
    async with connection.cursor(binary=statement.binary, row_factory=tuple_row) as cursor:
        await cursor.execute(statement.text, statement.parameters)
        rows = await cursor.fetchall() if cursor.description is not None else []
        return statement.read(rows, cursor.rowcount)


async def _answer(statement: Statement[T], cursor: psycopg.AsyncCursor[tuple[Any, ...]]) -> T:
    """Waits for the rows of a statement that was sent."""
    return statement.read(await cursor.fetchall(), cursor.rowcount)
