"""The client for asyncio: the verbs of `Client` for those that insert and change jobs, awaited."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any, Self

from ulid import ULID

from synk.async_limits import AsyncLimits
from synk.async_queues import AsyncQueues, drain_awaited
from synk.bulk import check_limit, check_selective
from synk.config import known_limits, seconds_of
from synk.errors import ConfigurationError
from synk.insertion import check_given, new_job, new_jobs, told
from synk.registry import Registry
from synk.row import check_id
from synk.schedules import AsyncPeriodicJobs
from synk.storage.uniqueness import insert_of
from synk.waits import InsertWait, StackWait, check_no_wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from synk.bulk import Changes, Found, JobFilter
    from synk.insertion import InsertOptions, JobSpec, NewJob
    from synk.row import Change, JobRow
    from synk.storage.async_postgres import AsyncPostgresStorage
    from synk.storage.bulking import Progress, Verb
    from synk.storage.postgres import PostgresStorage
    from synk.unique import Inserted


class AsyncClient:
    """The client's verbs for asyncio. It inserts and changes jobs; it does not run them.

    Args:
        storage: a `PostgresStorage`, whose DSN, pool settings and schema it uses.
        workers: as in `Client`: what its inserts default to, by kind.
        insert_wait: as in `Client`.

    Attributes:
        id: this client's id, a ULID.
        queues: pauses, resumes and resizes queues that run: the verbs of `Queues`, awaited.
        periodic: lists, pauses, resumes, runs and removes periodic jobs, see `Client.periodic`.
        limits: sets and shows limits while jobs run: the verbs of `ClientLimits`, awaited.
        registry: the workers by kind.

    Raises:
        ConfigurationError: *storage* is another one, *insert_wait* no duration, or *workers* are
            refused as in `Client`.
    """

    def __init__(
        self,
        *,
        storage: PostgresStorage,
        workers: Sequence[object] = (),
        insert_wait: dt.timedelta = dt.timedelta(0),
    ) -> None:
        self.storage: AsyncPostgresStorage = _asynchronous(storage)
        self.registry = Registry(workers)
        self._limits = known_limits(self.registry.limits, {})
        self.periodic = AsyncPeriodicJobs(self.storage, self.registry, self._limits)
        self._insert_wait_s = seconds_of("insert_wait", insert_wait)
        self.id = ULID()
        self.queues = AsyncQueues(self.storage)
        self.limits = AsyncLimits(self.storage)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def insert(
        self,
        name: str,
        args: Any,
        options: InsertOptions | None = None,
        *,
        wait: dt.timedelta | None = None,
    ) -> Inserted:
        """See `Client.insert`."""
        job = new_job(name, args, options, self.registry.defaults, self._limits)
        return told((await self._stored([job], wait))[0], job)

    async def insert_tx(
        self, connection: object, name: str, args: Any, options: InsertOptions | None = None
    ) -> Inserted:
        """See `Client.insert_tx`.

        *connection* is a `psycopg.AsyncConnection`, or an ``AsyncSession`` or ``AsyncConnection``
        of SQLAlchemy.
        """
        check_given(connection)
        job = new_job(name, args, options, self.registry.defaults, self._limits)
        return told((await insert_of(self.storage, [job])([job], connection=connection))[0], job)

    async def insert_many(
        self,
        jobs: Iterable[JobSpec],
        *,
        connection: object | None = None,
        wait: dt.timedelta | None = None,
    ) -> list[int]:
        """See `Client.insert_many`."""
        check_no_wait(connection, wait)
        rows = new_jobs(jobs, self.registry.defaults, self._limits)
        if not rows:
            return []
        if connection is not None:
            return await insert_of(self.storage, rows)(rows, connection=connection)
        return await self._stored(rows, wait)

    async def _stored(self, jobs: list[NewJob], wait: dt.timedelta | None) -> list[int]:
        wait_s = self._insert_wait_s if wait is None else seconds_of("wait", wait)
        store = insert_of(self.storage, jobs)
        if not wait_s:
            return await store(jobs)
        waiting = InsertWait(jobs, wait_s)
        while True:
            with waiting:
                return await store(jobs)
            await asyncio.sleep(waiting.pause_s)

    async def cancel(self, job_id: int) -> Change:
        """See `Client.cancel`."""
        return await self.storage.cancel(check_id("job_id", job_id))

    async def retry(self, job_id: int) -> Change:
        """See `Client.retry`."""
        return await self.storage.retry(check_id("job_id", job_id))

    async def delete(self, job_id: int) -> Change:
        """See `Client.delete`."""
        return await self.storage.delete(check_id("job_id", job_id))

    async def ready(self, job_id: int) -> Change:
        """See `Client.ready`."""
        return await self.storage.ready(check_id("job_id", job_id))

    async def count(self, wanted: JobFilter) -> Found:
        """See `Client.count`."""
        return await self.storage.count_many(check_selective(wanted))

    async def retry_many(
        self, wanted: JobFilter, *, limit: int | None = None, progress: Progress | None = None
    ) -> Changes:
        """See `Client.retry_many`."""
        return await self._change_many("retry_many", wanted, limit, progress)

    async def cancel_many(
        self, wanted: JobFilter, *, limit: int | None = None, progress: Progress | None = None
    ) -> Changes:
        """See `Client.cancel_many`."""
        return await self._change_many("cancel_many", wanted, limit, progress)

    async def delete_many(
        self, wanted: JobFilter, *, limit: int | None = None, progress: Progress | None = None
    ) -> Changes:
        """See `Client.delete_many`."""
        return await self._change_many("delete_many", wanted, limit, progress)

    async def _change_many(
        self, verb: Verb, wanted: JobFilter, limit: int | None, progress: Progress | None
    ) -> Changes:
        check_selective(wanted)
        check_limit(limit)
        return await self.storage.change_many(verb, wanted, limit=limit, progress=progress)

    async def get(self, job_id: int) -> JobRow | None:
        """See `Client.get`."""
        return next(iter(await self.storage.get([check_id("job_id", job_id)])), None)

    async def stack(
        self,
        job_id: int,
        timeout: dt.timedelta = dt.timedelta(seconds=15),  # noqa: ASYNC109 - as in `Client`
    ) -> str | None:
        """See `Client.stack`."""
        waiting = StackWait(check_id("job_id", job_id), timeout)
        question = await self.storage.ask_stack(job_id)
        if question is None:
            return None
        while (answer := await self.storage.stack_answer(question)) is None:  # noqa: ASYNC110 - it comes from afar
            await asyncio.sleep(waiting.pause_s())
        return answer

    async def drain_supervisor(self, supervisor: str, *, by: str | None = None) -> bool:
        """See `Client.drain_supervisor`."""
        return await drain_awaited(self.storage, supervisor, by)

    async def close(self) -> None:
        """Gives up the storage's connections."""
        await self.storage.close()


def _asynchronous(storage: PostgresStorage) -> AsyncPostgresStorage:
    # Here, because importing a client must not load the driver.
    from synk.storage.async_postgres import AsyncPostgresStorage  # noqa: PLC0415
    from synk.storage.postgres import PostgresStorage  # noqa: PLC0415

    if not isinstance(storage, PostgresStorage):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError("storage", storage, "must be a PostgresStorage")
    return AsyncPostgresStorage(storage)
