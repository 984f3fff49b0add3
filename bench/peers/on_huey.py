# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false
"""The same jobs on Huey with Redis."""

from __future__ import annotations

import os
import sys

from huey import RedisHuey

from peers import contract

huey = RedisHuey("peers", url=os.environ.get(contract.URL_VARIABLE), results=False)


@huey.task()
def perform(task: str, argument: float) -> None:
    contract.perform(task, argument)


class OnHuey(contract.Peer):
    def insert(self, task: str, argument: float, count: int) -> None:
        for _ in range(count):
            perform(task, argument)

    def insert_one(self, task: str, argument: float) -> None:
        perform(task, argument)

    def commands(self) -> list[list[str]]:
        start = [sys.executable, "-m", "huey.bin.huey_consumer", "peers.on_huey.huey"]
        return [[*start, "--workers", str(self.cpus), *self.settings["options"]]]


if __name__ == "__main__":
    # The tasks are found by the name of their module, which must not be __main__.
    from peers import on_huey

    contract.main(on_huey.OnHuey)
