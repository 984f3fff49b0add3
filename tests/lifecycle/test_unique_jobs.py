"""Unique jobs beside supervisors whose workers are killed."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg

import synk
from support.acting import fork_server_of, workers_of
from support.jobs import handlers
from support.supervising import make_client, supervised, wait_until

THREADS = 64
EACH = 20
KEYS = 10

IN_SCOPE = """
SELECT args ->> 'count' FROM synk.job
WHERE CASE WHEN unique_scope ->> 'until' = 'finished' THEN state NOT IN ('completed', 'cancelled')
           ELSE state IN ('available', 'scheduled', 'pending') AND attempt = 0 END
GROUP BY 1 HAVING count(*) > 1
"""
"""Keys with two in their scope, by what the rows say of themselves."""

UNFINISHED = "SELECT count(*) FROM synk.job WHERE state NOT IN ('completed', 'cancelled')"


def test_two_are_never_in_one_scope_whoever_inserts_and_whatever_is_killed(
    dsn: str, connection: psycopg.Connection
) -> None:
    """And no id that an insert gave is of a job that never was; no scope outlives its job."""
    found: set[int] = set()
    over = threading.Event()
    killed: list[int] = []

    def insert(number: int) -> None:
        for n in range(EACH):
            unique = synk.Unique(
                by=("args.count",), until="finished" if (number + n) % 2 else "started"
            )
            options = synk.InsertOptions(unique=unique, max_retries=0)
            key = (number * EACH + n) % KEYS
            found.add(int(producer.insert("unique", handlers.Typed(key), options)))

    def kill(fork_server: int) -> None:
        while not over.wait(0.05):
            for pid in workers_of(fork_server)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    with (
        make_client(dsn, queues={}) as producer,
        supervised(dsn) as client,
        ThreadPoolExecutor(THREADS + 1) as pool,
    ):
        killer = pool.submit(kill, fork_server_of(client.id))
        inserts = [pool.submit(insert, number) for number in range(THREADS)]
        try:
            while not all(each.done() for each in inserts):
                assert connection.execute(IN_SCOPE).fetchall() == []
        finally:
            over.set()
        assert [each.result() for each in inserts] == [None] * THREADS
        killer.result()
        wait_until(lambda: connection.execute(UNFINISHED).fetchone() == (0,))

    there = {id for (id,) in connection.execute("SELECT id FROM synk.job")}
    assert killed
    assert len(there) > KEYS
    assert found == there
