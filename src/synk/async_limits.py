"""The verbs for limits while jobs run, awaited: the same questions as in `synk.limit_steps`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from synk.limit_steps import UNCHANGED, listing, setting, unsetting
from synk.queue_steps import Ask

if TYPE_CHECKING:
    from synk.limit import Rate
    from synk.limit_status import LimitStatus
    from synk.limit_steps import KeyValue, Unchanged
    from synk.queue_steps import Steps
    from synk.storage.async_postgres import AsyncPostgresStorage

T = TypeVar("T")


class AsyncLimits:
    """The verbs of `ClientLimits` for asyncio, awaited.

    Args:
        storage: where what is set is kept.
    """

    def __init__(self, storage: AsyncPostgresStorage) -> None:
        self._storage = storage

    async def set(
        self,
        name: str,
        *,
        running: int | Unchanged | None = UNCHANGED,
        rate: Rate | Unchanged | None = UNCHANGED,
        key: KeyValue | None = None,
    ) -> None:
        """See `ClientLimits.set`."""
        await self._done(setting(name, running=running, rate=rate, key=key))

    async def unset(self, name: str, *, key: KeyValue | None = None) -> None:
        """See `ClientLimits.unset`."""
        await self._done(unsetting(name, key=key))

    async def list(self) -> list[LimitStatus]:
        """See `ClientLimits.list`."""
        return await self._done(listing())

    async def _done(self, steps: Steps[T]) -> T:
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value
            assert isinstance(step, Ask)  # noqa: S101 - none of them waits
            answer = await self._storage.ask(step.name, *step.given)
