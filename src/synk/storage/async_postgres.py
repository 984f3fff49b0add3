"""The same statements as `synk.storage.postgres`, awaited: what an asyncio producer needs."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import psycopg_pool

from synk.errors import InvalidJob, OutcomeUnknown, StorageConflict, StorageError
from synk.storage import pool_log
from synk.storage.borrowing import UTF8, encoding_of, in_utf8_awaited, lent_awaited
from synk.storage.bounds import is_alive
from synk.storage.connecting import POOL_CONNECTIONS_MAX
from synk.storage.cursors import PlainAsyncCursor, answer_awaited, run_awaited
from synk.storage.faults import is_of_no_use, told_if_unknown, translated
from synk.storage.inserting import (
    UNDER_WAY,
    chunks_of,
    insert_statement,
    may_be_repeated,
    pauses_before_repeats,
    unique_steps,
)
from synk.storage.sessions import CONNECT_S
from synk.storage.statements_bulk import ChangeWalk, CountWalk
from synk.waits import left_s

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from synk.bulk import Changes, Found, JobFilter
    from synk.insertion import NewJob
    from synk.row import Change, JobRow
    from synk.storage.bulking import Progress, Verb
    from synk.storage.connecting import AsyncPool
    from synk.storage.postgres import PostgresStorage
    from synk.storage.statement import Statement
    from synk.unique import Inserted

T = TypeVar("T")


class AsyncPostgresStorage:
    """Where an `AsyncClient` keeps its jobs; on the same database and schema as *storage*.

    It opens its pool at the first use, and belongs to the event loop of that use. Where *storage*
    was given a pool, connections are made as that pool makes its own, or are lent by it if it is
    one for asyncio, which stays the caller's to open and close.
    """

    def __init__(self, storage: PostgresStorage) -> None:
        self._storage = storage
        self._statements = storage.statements
        self._connector = storage.connector
        self._given = self._connector.given_async_pool
        self._pool: AsyncPool | None = None
        self._opening = asyncio.Lock()

    async def insert(
        self, jobs: Sequence[NewJob], *, connection: object | None = None
    ) -> list[int]:
        """See `Storage.insert`; *connection* is a `psycopg.AsyncConnection` of the caller's."""
        if connection is not None:
            chunks = chunks_of(jobs)
            async with lent_awaited(connection, as_one=len(chunks) > 1) as own:
                return await self._insert_on(own, chunks)
        return await _repeated(self._insert_once, jobs)

    async def insert_unique(
        self, jobs: Sequence[NewJob], *, connection: object | None = None
    ) -> list[Inserted]:
        """See `Uniqueness.insert_unique`; *connection* as in `insert`."""
        if connection is not None:
            async with lent_awaited(connection, as_one=True) as own:
                return await self._insert_unique_on(own, jobs, held=True)
        return await _repeated(
            lambda jobs: self._lent(lambda own: self._insert_unique_whole(own, jobs)), jobs
        )

    async def _insert_unique_whole(
        self, own: psycopg.AsyncConnection[Any], jobs: Sequence[NewJob]
    ) -> list[Inserted]:
        """See `Inserting._unique_once`."""
        with told_if_unknown(self._storage.describe):
            if len(jobs) == 1:
                return await self._insert_unique_on(own, jobs, held=False)
            async with own.transaction():
                return await self._insert_unique_on(own, jobs, held=False)

    async def _insert_unique_on(
        self, connection: psycopg.AsyncConnection[Any], jobs: Sequence[NewJob], *, held: bool
    ) -> list[Inserted]:
        steps = unique_steps(self._statements, jobs, held=held)
        asked = next(steps)
        try:
            while True:
                asked = steps.send([await run_awaited(connection, each) for each in asked])
        except StopIteration as stopped:
            return stopped.value

    async def _insert_once(self, jobs: Sequence[NewJob]) -> list[int]:
        chunks = chunks_of(jobs)
        return await self._lent(lambda own: self._insert_whole(own, chunks))

    async def _insert_whole(
        self, own: psycopg.AsyncConnection[Any], chunks: list[Sequence[NewJob]]
    ) -> list[int]:
        """See `Inserting._once`; this one's connections are all in autocommit."""
        with told_if_unknown(self._storage.describe):
            if len(chunks) == 1:
                return await self._insert_on(own, chunks)
            async with own.transaction():
                if self._connector.is_pipelined:
                    return await self._insert_pipelined(own, chunks)
                return await self._insert_on(own, chunks)

    async def _insert_on(
        self, connection: psycopg.AsyncConnection[Any], chunks: list[Sequence[NewJob]]
    ) -> list[int]:
        ids: list[int] = []
        for chunk in chunks:
            ids += await run_awaited(connection, insert_statement(self._statements, chunk))
        return ids

    async def _insert_pipelined(
        self, connection: psycopg.AsyncConnection[Any], chunks: list[Sequence[NewJob]]
    ) -> list[int]:
        """See `Inserting._pipelined`."""
        ids: list[int] = []
        async with connection.pipeline(), AsyncExitStack() as cursors:
            sent: deque[tuple[PlainAsyncCursor, Statement[list[int]]]] = deque()
            for chunk in chunks:
                statement = insert_statement(self._statements, chunk)
                cursor = await cursors.enter_async_context(PlainAsyncCursor(connection))
                await cursor.execute(statement.text, statement.parameters, binary=statement.binary)
                sent.append((cursor, statement))
                if len(sent) == UNDER_WAY:
                    ids += await answer_awaited(*sent.popleft())
            for each in sent:
                ids += await answer_awaited(*each)
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

    async def count_many(self, wanted: JobFilter) -> Found:
        """See `Bulking.count_many`."""
        walk = CountWalk(self._statements, await self._run(self._statements.bulk_bounds(wanted)))
        while (statement := walk.next()) is not None:
            walk.took(await self._run(statement))
        return walk.found()

    async def change_many(
        self,
        verb: Verb,
        wanted: JobFilter,
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> Changes:
        """See `Bulking.change_many`."""
        bound = await self._run(self._statements.bulk_bounds(wanted))
        walk = ChangeWalk(self._statements, verb, bound, limit)
        while (statement := walk.next()) is not None:
            try:
                walk.took(await self._run(statement))
            except (StorageError, InvalidJob) as error:
                if not walk.goes_on_after(error):
                    raise
                continue
            if progress is not None:
                progress(walk.changes)
        return walk.changes

    async def get(self, job_ids: Sequence[int]) -> list[JobRow]:
        """See `Storage.get`."""
        return await self._run(self._statements.get(job_ids))

    async def ask_stack(self, job_id: int) -> int | None:
        """See `Inspection.ask_stack`."""
        return await self._run(self._statements.ask_stack(job_id))

    async def stack_answer(self, question: int) -> str | None:
        """See `Inspection.stack_answer`."""
        return await self._run(self._statements.stack_answer(question))

    async def ask(self, name: str, *given: Any) -> Any:
        """Does what the method of `PostgresStorage` of that name does, which runs one statement."""
        return await self._run(getattr(self._statements, name)(*given))

    async def close(self) -> None:
        """Gives up the connections. A pool that was passed in is left open."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def _run(self, statement: Statement[T]) -> T:
        return await self._lent(lambda connection: run_awaited(connection, statement))

    async def _lent(self, work: Callable[[psycopg.AsyncConnection[Any]], Awaitable[T]]) -> T:
        """Does *work* on a connection of the pool; translates errors, and drops the pool as needed.

        Plain calls, without the contexts that could do the same: they are a fifth of the time that
        an insert takes apart from the server's.
        """
        with translated(self._storage.describe):
            try:
                pool, connection = await self._lend()
                try:
                    if pool is self._given and encoding_of(connection) != UTF8:
                        async with in_utf8_awaited(connection, of_pool=True):
                            return await _done(work, connection)
                    return await _done(work, connection)
                finally:
                    await pool.putconn(connection)
            except (psycopg.Error, OutcomeUnknown) as error:
                if isinstance(error, OutcomeUnknown) or is_of_no_use(error):
                    await self._drop_pool()
                raise

    async def _lend(self) -> tuple[AsyncPool, psycopg.AsyncConnection[Any]]:
        """Lends a connection that is alive, in what is left of an insert's wait."""
        seconds = left_s(math.inf)
        if seconds == math.inf:
            return await self._lend_alive()
        try:
            async with asyncio.timeout(seconds):
                return await self._lend_alive()
        except TimeoutError:
            raise psycopg_pool.PoolTimeout(f"none within {seconds:.1f} s") from None

    async def _lend_alive(self) -> tuple[AsyncPool, psycopg.AsyncConnection[Any]]:
        deadline = time.monotonic() + CONNECT_S
        pool, connection = await self._taken()
        while not is_alive(connection):
            await pool.putconn(connection)
            if pool is not self._given:
                await self._drop_pool()
                return await self._taken()
            if time.monotonic() > deadline:
                raise psycopg_pool.PoolTimeout(f"{pool.name!r} has only dead connections")
            # Given back, it is one less of those that died together.
            pool, connection = await self._taken()
        return pool, connection

    async def _taken(self) -> tuple[AsyncPool, psycopg.AsyncConnection[Any]]:
        pool = self._given or self._pool or await self._opened_pool()
        try:
            connection = await pool.getconn(CONNECT_S)
        except psycopg_pool.PoolClosed:
            if pool is self._given:
                raise
            # Another task has given it up since; that is no trouble of this one.
            pool = await self._opened_pool()
            connection = await pool.getconn(CONNECT_S)
        if pool is self._given:
            self._connector.note(connection)
        return pool, connection

    async def _drop_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(timeout=0)

    async def _opened_pool(self) -> AsyncPool:
        async with self._opening:
            if self._pool is None:
                self._pool = await self._open_pool()
            return self._pool

    async def _open_pool(self) -> AsyncPool:
        made_by, conninfo, options = await asyncio.to_thread(self._connector.for_asyncio)
        first = await made_by.connect(conninfo, **options)
        await first.close()
        pool: AsyncPool = psycopg_pool.AsyncConnectionPool(
            conninfo,
            connection_class=made_by,
            kwargs=options,
            min_size=1,
            max_size=POOL_CONNECTIONS_MAX,
            open=False,
            name=pool_log.POOL,
        )
        pool_log.be_silent_about_own()
        await pool.open()
        return pool


async def _repeated(
    once: Callable[[Sequence[NewJob]], Awaitable[list[T]]], jobs: Sequence[NewJob]
) -> list[T]:
    """See `Inserting.alone`."""
    for pause_s in pauses_before_repeats():
        try:
            return await once(jobs)
        except (OutcomeUnknown, StorageConflict) as error:
            if not may_be_repeated(error, jobs):
                raise
        await asyncio.sleep(pause_s)
    return await once(jobs)


async def _done(
    work: Callable[[psycopg.AsyncConnection[Any]], Awaitable[T]],
    connection: psycopg.AsyncConnection[Any],
) -> T:
    """Does *work* in a transaction: that of each statement, or one around them."""
    if connection.autocommit:
        return await work(connection)
    async with connection.transaction():
        return await work(connection)
