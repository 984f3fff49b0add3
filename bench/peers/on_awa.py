# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false
"""The same jobs on awa."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import awa

from peers import contract

if TYPE_CHECKING:
    import argparse

BATCH = 10_000


@dataclass
class Task:
    task: str
    argument: float


class OnAwa(contract.AsyncPeer):
    """It has statistics, but they take long and lag behind: they do not tell what is left."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        # Its driver wants a host before the folder of the socket.
        self.url = self.url.replace("@/", "@localhost/")

    def prepare(self) -> None:
        self.run(self._open())

    async def _open(self) -> None:
        self._client = awa.AsyncClient(self.url)
        await self._client.migrate()
        await self._client.install_queue_storage()

    def insert(self, task: str, argument: float, count: int) -> None:
        async def insert() -> None:
            for part in contract.chunks(count, BATCH):
                await self._client.enqueue_many_copy([Task(task, argument)] * part)

        self.run(insert())

    def insert_one(self, task: str, argument: float) -> None:
        async def insert() -> None:
            await self._client.insert(Task(task, argument))

        self.run(insert())

    def work(self) -> None:
        async def work() -> None:
            client = awa.AsyncClient(self.url)

            @client.task(Task)
            async def perform(job: Any) -> None:
                contract.perform(job.args.task, job.args.argument)

            await client.start([("default", self.settings["max_workers"])])
            await asyncio.Event().wait()

        asyncio.run(work())


if __name__ == "__main__":
    contract.main(OnAwa)
