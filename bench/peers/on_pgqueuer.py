# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false
"""The same jobs on PgQueuer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import AsyncpgDriver

from peers import contract, handlers

if TYPE_CHECKING:
    import argparse

BATCH = 1000


class OnPgQueuer(contract.AsyncPeer):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._is_computing = options.task == "burn"

    def prepare(self) -> None:
        connection = self.run(asyncpg.connect(self.url))
        self._queries = Queries(AsyncpgDriver(connection))
        self.run(self._queries.install())

    def insert(self, task: str, argument: float, count: int) -> None:
        payload = json.dumps([task, argument]).encode()
        for part in contract.chunks(count, BATCH):
            self.run(self._queries.enqueue(["task"] * part, [payload] * part, [0] * part))

    def insert_one(self, task: str, argument: float) -> None:
        self.run(self._queries.enqueue("task", json.dumps([task, argument]).encode()))

    def is_done(self) -> bool:
        return not self.value("SELECT EXISTS (SELECT FROM pgqueuer)")

    def left(self) -> int:
        return self.value("SELECT count(*) FROM pgqueuer")

    def work(self) -> None:
        async def work() -> None:
            connection = await asyncpg.connect(self.url)
            queuer = PgQueuer.from_asyncpg_connection(connection)

            @queuer.entrypoint("task")
            async def task(job: Any) -> None:
                name, argument = json.loads(job.payload)
                if name == "pause":
                    await handlers.pause_awaited(argument)
                else:
                    contract.perform(name, argument)

            await queuer.run(batch_size=self.settings["batch_size"])

        uvloop.run(work())


if __name__ == "__main__":
    contract.main(OnPgQueuer)
