# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false
"""The same jobs on Celery with Redis."""

from __future__ import annotations

import os
import sys

from celery import Celery

from peers import contract

app = Celery("peers.on_celery", broker=os.environ.get(contract.URL_VARIABLE))
app.conf.task_ignore_result = True


@app.task(name="perform")
def perform(task: str, argument: float) -> None:
    contract.perform(task, argument)


class OnCelery(contract.Peer):
    def prepare(self) -> None:
        app.conf.broker_url = self.url
        self._producer = app.amqp.Producer(app.connection_for_write())

    def insert(self, task: str, argument: float, count: int) -> None:
        for _ in range(count):
            perform.apply_async((task, argument), producer=self._producer)

    def insert_one(self, task: str, argument: float) -> None:
        perform.apply_async((task, argument), producer=self._producer)

    def commands(self) -> list[list[str]]:
        start = [sys.executable, "-m", "celery", "-A", "peers.on_celery", "worker"]
        prefetch = f"--prefetch-multiplier={self.settings['prefetch_multiplier']}"
        return [[*start, f"--concurrency={self.cpus}", prefetch, *self.settings["options"]]]


if __name__ == "__main__":
    # The tasks belong to the application that the workers import.
    from peers import on_celery

    contract.main(on_celery.OnCelery)
