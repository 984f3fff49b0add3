"""synk's own handlers, measured as its peers are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import synk
from peers import contract

if TYPE_CHECKING:
    import argparse


@dataclass
class Task(synk.JobArgs, kind="task"):
    task: str
    argument: float


@dataclass
class Noop(synk.JobArgs, kind="noop"):
    pass


@synk.worker
def task(job: synk.Job[Task]) -> None:
    contract.perform(job.args.task, job.args.argument)


@synk.worker
def noop(_job: synk.Job[Noop]) -> None:
    contract.perform("noop", 0)


def args_of(name: str, argument: float) -> synk.JobArgs:
    return Noop() if name == "noop" else Task(name, argument)


class Synk(contract.WorkingPeer):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.client = synk.Client(
            storage=synk.PostgresStorage(self.url),
            queues={"default": synk.QueueConfig()},
            workers=[task, noop],
            processes=self.cpus,
        )

    def prepare(self) -> None:
        synk.PostgresStorage(self.url).migrate()

    def insert(self, task: str, argument: float, count: int) -> None:
        self.client.insert_many((task, args_of(task, argument)) for _ in range(count))

    def insert_one(self, task: str, argument: float) -> None:
        self.client.insert(task, args_of(task, argument))

    def is_done(self) -> bool:
        return not any(
            self.value(f"SELECT EXISTS (SELECT FROM synk.job WHERE state = '{state}')")
            for state in ("available", "running")
        )

    def left(self) -> int:
        return self.value("SELECT count(*) FROM synk.job WHERE finalized_at IS NULL")

    def work(self) -> None:
        logging.basicConfig(level=logging.WARNING)
        self.client.start()


if __name__ == "__main__":
    contract.main(Synk)
