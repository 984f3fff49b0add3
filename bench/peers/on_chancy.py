# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false
"""The same jobs on Chancy."""

from __future__ import annotations

import asyncio

from chancy import Chancy, Queue, Worker, job

from peers import contract

BATCH = 1000


@job(queue="default")
def perform(*, task: str, argument: float) -> None:
    contract.perform(task, argument)


class OnChancy(contract.AsyncPeer):
    def prepare(self) -> None:
        self._chancy = Chancy(self.url)
        self.run(self._prepare())

    async def _prepare(self) -> None:
        await self._chancy.__aenter__()
        await self._chancy.migrate()
        queue = Queue(
            "default",
            concurrency=self.settings["concurrency"],
            executor=Chancy.Executor.Process,
            executor_options={"maximum_jobs_per_worker": self.settings["maximum_jobs_per_worker"]},
            polling_interval=self.settings["polling_interval"],
            eager_polling=self.settings["eager_polling"],
        )
        await self._chancy.declare(queue, upsert=True)

    def insert(self, task: str, argument: float, count: int) -> None:
        async def insert() -> None:
            one = perform.job.with_kwargs(task=task, argument=argument)
            async for _ in self._chancy.push_many([one] * count, batch_size=BATCH):
                pass

        self.run(insert())

    def insert_one(self, task: str, argument: float) -> None:
        one = perform.job.with_kwargs(task=task, argument=argument)
        self.run(self._chancy.push(one))

    def is_done(self) -> bool:
        return not any(
            self.value(f"SELECT EXISTS (SELECT FROM chancy_jobs WHERE state = '{state}')")
            for state in ("pending", "running")
        )

    def left(self) -> int:
        return self.value("SELECT count(*) FROM chancy_jobs WHERE state IN ('pending', 'running')")

    def work(self) -> None:
        async def work() -> None:
            async with Chancy(self.url) as chancy, Worker(chancy) as worker:
                await worker.wait_for_shutdown()

        asyncio.run(work())


if __name__ == "__main__":
    # The jobs are found by the name of their module, which must not be __main__.
    from peers import on_chancy

    contract.main(on_chancy.OnChancy)
