"""What idle worker processes cost: memory of the supervisor and its workers, and CPU time.

    python bench/memory.py [--full] [--processes N] [--seconds S] [--rounds N] [--json FILE]

Memory is the proportional share (PSS): what processes share is counted once, divided among them.
CPU is the share of one core that the supervisor, the process that makes the workers, and the
workers use while nothing runs. The floor is what bare Python processes take that import psycopg and
sleep: one for the supervisor, and as many forked from it as there are workers.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import psutil

import synk
from bare import sleepers_mb
from figures import FLOOR, SYNK, Results, interleaved
from options import Size, parse, parser_of
from server import embedded_server, fresh_schema, server_facts
from showing import publish

SIZES = {
    "processes": Size(16, 16, "worker processes"),
    "seconds": Size(15.0, 60.0, "of idleness"),
    "rounds": Size(2, 5, "measurements of each"),
}
SUPERVISOR = "supervisor, MB"
WORKER = "a worker, MB"
ALL = "all of it, MB"


@dataclass
class Noop(synk.JobArgs, kind="noop"):
    pass


@synk.worker
def noop(job: synk.Job[Noop]) -> None:
    """Nothing: only that each worker has run something."""


def main() -> None:
    options = parse(parser_of(__doc__), SIZES)
    targets = {ALL: 60.0 + 12.0 * options.processes}
    results = Results()
    with embedded_server() as dsn:
        results.facts["server"] = server_facts(dsn)
        fresh_schema(dsn)
        contestants = {
            SYNK: lambda: measured(dsn, options.processes, options.seconds),
            FLOOR: lambda: bare(options.processes),
        }
        interleaved(contestants, options.rounds, results)
    title = f"a supervisor with {options.processes} idle workers, for {options.seconds:g} s"
    publish(options, "memory", title, results, targets)


def bare(processes: int) -> dict[str, float]:
    return dict(zip((SUPERVISOR, WORKER, ALL), sleepers_mb(processes), strict=True))


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
    fork_server = [each for each in supervisor.children() if each.name() == "synk-forkserver"]
    before = [cpu_s(each) for each in (supervisor, *fork_server, *workers)]
    time.sleep(seconds)
    after = [cpu_s(each) for each in (supervisor, *fork_server, *workers)]
    used = [(later - earlier) / seconds for earlier, later in zip(before, after, strict=True)]
    pss = [each.memory_full_info().pss / 1e6 for each in (supervisor, *fork_server, *workers)]
    return {
        SUPERVISOR: pss[0],
        "process that makes the workers, MB": pss[1],
        WORKER: sum(pss[2:]) / processes,
        ALL: sum(pss),
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
