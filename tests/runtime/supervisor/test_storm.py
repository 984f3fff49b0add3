"""Thousands of short jobs while somebody kills a worker fifty times a second."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

import synk
from support.acting import fork_server_of, is_gone, workers_of
from support.jobs import handlers
from support.supervising import SupervisorProcess, left_in_shared_memory, make_client, wait_until
from synk import CancelReason, Cause, JobState
from synk.retry import POISON_CRASHES
from synk.runtime.ipc import linux

JOBS = 2000
KILLS = 300
KILL_EVERY_S = 0.02


@contextmanager
def killer(fork_server: int, chance: random.Random) -> Iterator[Counter[int]]:
    """Kills a random worker every 20 ms, 300 times; gives the pids."""
    killed: Counter[int] = Counter()
    stop = threading.Event()

    def kill() -> None:
        while killed.total() < KILLS and not stop.wait(KILL_EVERY_S):
            workers = workers_of(fork_server)
            if not workers:
                continue
            pid = chance.choice(workers)
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            # From here on the descriptor means this very process; and it is still a worker.
            if pid in workers_of(fork_server):
                # It may have ended by itself meanwhile.
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    killed[pid] += 1
            os.close(pidfd)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def all_over(client: synk.Client, connection: psycopg.Connection) -> bool:
    """Whether all jobs are; those that wait for another try have it now."""
    connection.execute("UPDATE synk.job SET scheduled_at = now() WHERE state = 'scheduled'")
    return all(state.is_final for state in client.storage.counts())


def write_jobs(client: synk.Client, log: Path, count: int) -> list[int]:
    options = synk.InsertOptions(max_retries=25)
    return client.insert_many(
        [("w", handlers.Write(str(log), str(n), sleep_s=0.001), options) for n in range(count)]
    )


def test_w1_a_storm_of_kills_loses_and_doubles_nothing_and_leaves_nothing_behind(
    dsn: str, tmp_path: Path, connection: psycopg.Connection
) -> None:
    log = tmp_path / "log"
    with make_client(dsn) as client, SupervisorProcess(dsn, "{'processes': 2}") as supervisor:
        process = psutil.Process(supervisor.process.pid)
        write_jobs(client, tmp_path / "warm", 300)
        wait_until(lambda: all_over(client, connection))
        memory, descriptors, shared = (
            process.memory_info().rss,
            process.num_fds(),
            left_in_shared_memory(),
        )

        with killer(fork_server_of(supervisor.tag), random.Random(1)) as killed:
            ids = write_jobs(client, log, JOBS)
            wait_until(lambda: all_over(client, connection), seconds=60, what="the end of all")
        rows = client.storage.get(ids)

        zombies = [p for p in linux.descendants(process.pid) if is_gone(p)]
        wait_until(lambda: not [p for p in zombies if Path(f"/proc/{p}").exists()])
        wait_until(lambda: process.num_fds() <= descriptors + 3)
        wait_until(lambda: left_in_shared_memory() <= shared)
        assert process.memory_info().rss - memory < 20_000_000
        supervisor.process.terminate()
        code, _, err = supervisor.wait()
    assert code == 0, err
    assert killed.total() > 50
    check_rows(rows, executions=Counter(map(int, log.read_text().split())))
    crashes = sum(row.crashes for row in rows)
    assert 0 < crashes <= killed.total()


def check_rows(rows: list[synk.JobRow], executions: Counter[int]) -> None:
    """Each crash is on record; three of one job end it; all others completed."""
    assert len(rows) == JOBS
    for row in rows:
        assert row.uncounted == 0
        assert row.crashes == len(row.errors)
        assert {error.cause for error in row.errors} <= {Cause.SIGNAL}
        assert {error.signal for error in row.errors} <= {"SIGKILL"}
        if row.state is JobState.COMPLETED:
            assert row.attempt == row.crashes + 1
            assert row.crashes < POISON_CRASHES
        else:
            assert (row.cancel_reason, row.crashes) == (CancelReason.POISON, POISON_CRASHES)
        # An attempt may have been killed before it came to its first line, never run twice.
        assert isinstance(row.args, dict)
        ran = executions[int(str(row.args["text"]))]
        assert int(row.state is JobState.COMPLETED) <= ran <= row.attempt
