# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false
"""The same jobs on Procrastinate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import procrastinate

from peers import contract

if TYPE_CHECKING:
    import argparse

BATCH = 1000


class Procrastinate(contract.AsyncPeer):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=self.url))

        @self._app.task(name="short")
        async def short(task: str, argument: float) -> None:
            contract.perform(task, argument)

        @self._app.task(name="computing")
        def computing(task: str, argument: float) -> None:
            contract.perform(task, argument)

        self._task = computing if options.task == "burn" else short

    def prepare(self) -> None:
        self.run(self._app.open_async())
        self.run(self._app.schema_manager.apply_schema_async())

    def insert(self, task: str, argument: float, count: int) -> None:
        for part in contract.chunks(count, BATCH):
            jobs = [{"task": task, "argument": argument}] * part
            self.run(self._task.batch_defer_async(*jobs))

    def insert_one(self, task: str, argument: float) -> None:
        self.run(self._task.defer_async(task=task, argument=argument))

    def is_done(self) -> bool:
        return not any(
            self.value(f"SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status = '{status}')")
            for status in ("todo", "doing")
        )

    def left(self) -> int:
        return self.value(
            "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
        )

    def work(self) -> None:
        async def work() -> None:
            async with self._app.open_async():
                await self._app.run_worker_async(concurrency=self.settings["concurrency"])

        asyncio.run(work())


if __name__ == "__main__":
    contract.main(Procrastinate)
