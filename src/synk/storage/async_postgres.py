"""The same statements as `synk.storage.postgres`, awaited: what an asyncio producer needs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import psycopg
import psycopg_pool
from psycopg.rows import tuple_row

from synk.errors import ConfigurationError
from synk.storage.faults import translated
from synk.storage.postgres import insert_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.job import Change, JobRow, NewJob
    from synk.storage.postgres import PostgresStorage
    from synk.storage.statements import Statement

T = TypeVar("T")

_POOL_CONNECTIONS_MAX: Final = 5
_CONNECT_TIMEOUT_S: Final = 10


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
        if len(jobs) == 1:
            return await self._run(self._statements.insert(jobs[0]))
        with translated(self._storage.describe):
            pool = await self._opened_pool()
            async with pool.connection(timeout=_CONNECT_TIMEOUT_S) as own, own.transaction():
                return await self._insert_on(own, jobs)

    async def _insert_on(
        self, connection: psycopg.AsyncConnection[Any], jobs: Sequence[NewJob]
    ) -> list[int]:
        ids: list[int] = []
        for statement in insert_statements(self._statements, jobs):
            ids += await _execute(connection, statement)
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
        with translated(self._storage.describe):
            pool = await self._opened_pool()
            async with pool.connection(timeout=_CONNECT_TIMEOUT_S) as connection:
                return await _execute(connection, statement)

    async def _opened_pool(self) -> psycopg_pool.AsyncConnectionPool[Any]:
        async with self._opening:
            if self._pool is None:
                conninfo, options = await asyncio.to_thread(self._storage.connect_arguments)
                first = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, **options)
                await first.close()
                pool: psycopg_pool.AsyncConnectionPool[Any] = psycopg_pool.AsyncConnectionPool(
                    conninfo,
                    kwargs={"autocommit": True, **options},
                    min_size=1,
                    max_size=_POOL_CONNECTIONS_MAX,
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
