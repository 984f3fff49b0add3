"""What idle worker processes cost: memory of the supervisor and its workers, and CPU time.

    python bench/memory.py [--processes N] [--seconds S] [--json FILE]

Memory is the proportional share (PSS): what processes share is counted once, divided among them.
CPU is the share of one core that the supervisor, the process that makes the workers, and the
workers use while nothing runs.
"""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

import synk
from common import embedded_server, fresh_schema, show, write_json


@dataclass
class Noop(synk.JobArgs, kind="noop"):
    pass


@synk.worker
def noop(job: synk.Job[Noop]) -> None:
    """Nothing: only that each worker has run something."""


def main() -> None:
    options = parsed()
    with embedded_server() as dsn:
        fresh_schema(dsn)
        figures = measured(dsn, options.processes, options.seconds)
    show(
        f"a supervisor with {options.processes} idle workers, for {options.seconds:g} s",
        ["", "value"],
        [[name, f"{figure:.3g}"] for name, figure in figures.items()],
    )
    write_json(options.json, {"processes": options.processes, "seconds": options.seconds}, figures)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, default=16, help="worker processes (16)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of idleness (20)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def measured(dsn: str, processes: int, seconds: float) -> dict[str, float]:
    client = synk.Client(
        storage=synk.PostgresStorage(dsn),
        queues={"default": synk.QueueConfig()},
        workers=[noop],
        processes=processes,
    )
    figures: dict[str, float] = {}

    def measure() -> None:
        try:
            figures.update(measured_idle(client, processes, seconds))
        finally:
            client.shutdown()

    client.insert_many([("noop", Noop())] * 100)
    thread = threading.Thread(target=measure)
    thread.start()
    client.start()
    thread.join()
    client.close()
    return figures


def measured_idle(client: synk.Client, processes: int, seconds: float) -> dict[str, float]:
    supervisor = psutil.Process()
    while len(workers_of(supervisor)) < processes or any(
        slot.job_id is not None for slot in client.running()
    ):
        time.sleep(0.1)
    time.sleep(2.0)
    workers = workers_of(supervisor)
    nursery = [each for each in supervisor.children() if each.name() == "synk-nursery"]
    before = [cpu_s(each) for each in (supervisor, *nursery, *workers)]
    time.sleep(seconds)
    after = [cpu_s(each) for each in (supervisor, *nursery, *workers)]
    used = [(later - earlier) / seconds for earlier, later in zip(before, after, strict=True)]
    pss = [each.memory_full_info().pss / 1e6 for each in (supervisor, *nursery, *workers)]
    return {
        "supervisor, MB": pss[0],
        "process that makes the workers, MB": pss[1],
        "a worker, MB": sum(pss[2:]) / processes,
        "all of it, MB": sum(pss),
        "supervisor, % of a core": 100 * used[0],
        "all workers, % of a core": 100 * sum(used[1:]),
    }


def workers_of(supervisor: psutil.Process) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for each in supervisor.children(recursive=True):
        try:
            if each.name().startswith("synk-worker"):
                found.append(each)
        except psutil.NoSuchProcess:
            continue
    return found


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
