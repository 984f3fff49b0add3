# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false
"""The same jobs on Dramatiq with Redis."""

from __future__ import annotations

import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from peers import contract

if contract.URL_VARIABLE in os.environ:
    dramatiq.set_broker(RedisBroker(url=os.environ[contract.URL_VARIABLE]))


@dramatiq.actor
def perform(task: str, argument: float) -> None:
    contract.perform(task, argument)


class OnDramatiq(contract.Peer):
    def insert(self, task: str, argument: float, count: int) -> None:
        for _ in range(count):
            perform.send(task, argument)

    def insert_one(self, task: str, argument: float) -> None:
        perform.send(task, argument)

    def commands(self) -> list[list[str]]:
        start = [sys.executable, "-m", "dramatiq", "peers.on_dramatiq"]
        threads = str(self.settings["threads"])
        return [[*start, "--processes", str(self.cpus), "--threads", threads]]


if __name__ == "__main__":
    contract.main(OnDramatiq)
