# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false
"""The same jobs on RQ with Redis."""

from __future__ import annotations

import sys

from redis import Redis
from rq import Queue

from peers import contract

BATCH = 1000


class OnRq(contract.Peer):
    def prepare(self) -> None:
        self._queue = Queue("default", connection=Redis.from_url(self.url))

    def insert(self, task: str, argument: float, count: int) -> None:
        for part in contract.chunks(count, BATCH):
            one = Queue.prepare_data(contract.perform, (task, argument), result_ttl=0)
            self._queue.enqueue_many([one] * part)

    def insert_one(self, task: str, argument: float) -> None:
        self._queue.enqueue(contract.perform, task, argument, result_ttl=0)

    def commands(self) -> list[list[str]]:
        start = [sys.executable, "-m", "rq.cli", "worker-pool", "default", "--url", self.url]
        return [[*start, "--num-workers", str(self.cpus), *self.settings["options"]]]


if __name__ == "__main__":
    contract.main(OnRq)
