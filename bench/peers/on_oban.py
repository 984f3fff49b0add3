# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false
"""The same jobs on Oban for Python."""

from __future__ import annotations

import asyncio
from typing import Any

from oban import Oban, worker
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

from peers import contract

BATCH = 1000


@worker(queue="default")
class Task:
    async def process(self, job: Any) -> None:
        contract.perform(job.args["task"], job.args["argument"])


class OnOban(contract.AsyncPeer):
    def prepare(self) -> None:
        self.run(self._open())

    async def _open(self) -> None:
        pool = AsyncConnectionPool(self.url, open=False)
        await pool.open()
        await install(pool)
        self._oban = Oban(pool=pool)

    def insert(self, task: str, argument: float, count: int) -> None:
        for part in contract.chunks(count, BATCH):
            jobs = [Task.new({"task": task, "argument": argument}) for _ in range(part)]
            self.run(self._oban.enqueue_many(jobs))

    def insert_one(self, task: str, argument: float) -> None:
        self.run(self._oban.enqueue(Task.new({"task": task, "argument": argument})))

    def is_done(self) -> bool:
        return not any(
            self.value(f"SELECT EXISTS (SELECT FROM oban_jobs WHERE state = '{state}')")
            for state in ("available", "executing")
        )

    def left(self) -> int:
        return self.value(
            "SELECT count(*) FROM oban_jobs WHERE state IN ('available', 'executing')"
        )

    def work(self) -> None:
        async def work() -> None:
            async with AsyncConnectionPool(self.url, open=False) as pool:
                queues = {"default": self.settings["concurrency"]}
                async with Oban(pool=pool, queues=queues):
                    await asyncio.Event().wait()

        asyncio.run(work())


if __name__ == "__main__":
    contract.main(OnOban)
