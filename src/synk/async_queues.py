"""The verbs for queues that run, awaited: the same questions as in `synk.queue_steps`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from synk.queue_steps import Ask, checked_size, draining_steps, pausing, saying
from synk.queue_words import MAX_WORKERS, PAUSED

if TYPE_CHECKING:
    import datetime as dt

    from synk.queue_steps import Paused, Steps
    from synk.storage.async_postgres import AsyncPostgresStorage

T = TypeVar("T")


class AsyncQueues:
    """The verbs of `Queues` for asyncio, awaited.

    Args:
        storage: where what is said of queues is kept.
    """

    def __init__(self, storage: AsyncPostgresStorage) -> None:
        self._storage = storage

    async def pause(
        self,
        queue: str,
        *,
        wait: dt.timedelta | None = None,
        supervisor: str | None = None,
        by: str | None = None,
    ) -> Paused:
        """See `Queues.pause`."""
        steps = pausing(queue, wait=wait, supervisor=supervisor, by=by)
        return await _awaited(steps, self._storage)

    async def resume(
        self, queue: str, *, supervisor: str | None = None, by: str | None = None
    ) -> None:
        """See `Queues.resume`."""
        steps = saying(PAUSED, False, queue, supervisor=supervisor, by=by)  # noqa: FBT003 - a word
        await _awaited(steps, self._storage)

    async def resize(
        self,
        queue: str,
        max_workers: int | None,
        *,
        supervisor: str | None = None,
        by: str | None = None,
    ) -> None:
        """See `Queues.resize`."""
        size = checked_size(max_workers)
        steps = saying(MAX_WORKERS, size, queue, supervisor=supervisor, by=by)
        await _awaited(steps, self._storage)


async def drain_awaited(
    storage: AsyncPostgresStorage, supervisor: str, by: str | None = None
) -> bool:
    """See `Client.drain_supervisor`."""
    return await _awaited(draining_steps(supervisor, by), storage)


async def _awaited(steps: Steps[T], storage: AsyncPostgresStorage) -> T:
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(step, Ask):
            answer = await storage.ask(step.name, *step.given)
        else:
            answer = await asyncio.sleep(step)
