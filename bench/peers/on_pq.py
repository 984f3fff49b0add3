# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportFunctionMemberAccess=false
"""The same jobs on python-pq, which forks a process for each job."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from pq import PQ

from peers import contract

if TYPE_CHECKING:
    import argparse


class OnPq(contract.WorkingPeer):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        # Its migrations take the % of a socket's folder in a URL for an interpolation.
        url = urlsplit(self.url)
        os.environ.update({f"PG{name.upper()}": value for name, value in parse_qsl(url.query)})
        self._pq = PQ(f"postgresql://{url.netloc}{url.path}")

    def prepare(self) -> None:
        self._pq.run_db_migrations()

    def insert(self, task: str, argument: float, count: int) -> None:
        # There is no call for many.
        for _ in range(count):
            self.insert_one(task, argument)

    def insert_one(self, task: str, argument: float) -> None:
        self._pq.enqueue(contract.perform, task, argument)

    def is_done(self) -> bool:
        return not self.value(f"SELECT EXISTS (SELECT {_LEFT})")

    def left(self) -> int:
        return self.value(f"SELECT count(*) {_LEFT}")

    def work(self) -> None:
        self._pq.run_worker(
            concurrency=self.settings["concurrency"], poll_interval=self.settings["poll_interval"]
        )


_LEFT = "FROM pq_tasks WHERE status IN ('PENDING', 'RUNNING')"


if __name__ == "__main__":
    contract.main(OnPq)
