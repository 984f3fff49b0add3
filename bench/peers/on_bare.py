"""The floor: the same work in bare processes, one for each CPU, with no queue at all."""

from __future__ import annotations

import signal
import sys

from peers import contract


class Bare(contract.Peer):
    """Each process gets its share of the jobs before it starts."""

    def insert(self, task: str, argument: float, count: int) -> None:
        self.share = (task, argument, count)

    def commands(self) -> list[list[str]]:
        task, argument, count = self.share
        shares = [count // self.cpus + (number < count % self.cpus) for number in range(self.cpus)]
        start = [*contract.itself(), "share", task, str(argument)]
        return [[*start, str(share)] for share in shares if share]


def run(task: str, argument: float, count: int) -> None:
    for _ in range(count):
        contract.perform(task, argument)
    # It stays, as workers do: the contract takes one that ends for a fault.
    signal.pause()


if __name__ == "__main__":
    if sys.argv[1] == "share":
        run(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
    else:
        contract.main(Bare)
