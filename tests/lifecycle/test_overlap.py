"""A deploy: an old and a new supervisor at the same time, and all that they do side by side."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import psycopg

from support.jobs import tasks
from support.starting import APP, StartedApp
from support.supervising import make_client, wait_until
from synk import JobState
from synk.storage.postgres import PostgresStorage
from synk.testing.making import AN_HOUR, OTHER, OWNER, PAST, claim, insert, register

COUNT = 300

T = TypeVar("T")


def test_q6_a_deploy_runs_every_job_once_and_leaves_nothing_behind(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with make_client(dsn, workers=tasks.WORKERS) as client:
        jobs = [("x", tasks.Task(log=str(log), text=str(n), seconds=0.005)) for n in range(COUNT)]
        client.insert_many(jobs)
        with (
            StartedApp(tmp_path / "old", dsn, app=APP) as old,
            StartedApp(tmp_path / "new", dsn, app=APP) as new,
        ):
            for app in (old, new):
                app.wait_for_log("started")
            wait_until(lambda: len(tasks.notes(log, "done")) > COUNT // 4)
            old.signal(signal.SIGTERM)
            client.insert_many(jobs)
            assert old.wait() == 0, old.log
            assert old.processes() == []
            wait_until(lambda: client.storage.counts() == {JobState.COMPLETED: 2 * COUNT})
            new.signal(signal.SIGTERM)
            assert new.wait() == 0, new.log
            assert new.processes() == []

    runs = Counter(tasks.notes(log, "begun"))
    assert len(runs) == COUNT
    assert set(runs.values()) == {2}
    by = connection.execute("SELECT attempted_by[cardinality(attempted_by)] FROM synk.job")
    assert len(set(by.fetchall())) == 2
    left = connection.execute("SELECT count(*) FROM synk.client WHERE stopped_at IS NULL")
    assert left.fetchone() == (0,)


def both(dsn: str, task: Callable[[PostgresStorage], T]) -> list[T]:
    """Runs *task* in two supervisors' storages at the same time; returns what each has done."""
    together = threading.Barrier(2)

    def run(_: int) -> T:
        storage = PostgresStorage(dsn)
        storage.ping()
        together.wait()
        try:
            return task(storage)
        finally:
            storage.close()

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, range(2)))


def until_nothing(step: Callable[[], int]) -> int:
    """Repeats *step* until it does nothing; returns what it has done in all."""
    total = 0
    while done := step():
        total += done
    return total


def test_q6_maintenance_by_two_at_a_time_does_everything_once(
    dsn: str, storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    for _ in range(COUNT):
        insert(storage)
    with connection.transaction():
        # Due already: where the rules hold, a job would be available then.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("UPDATE synk.job SET state = 'scheduled', scheduled_at = now()")

    staged = both(dsn, lambda each: until_nothing(lambda: each.stage(7)))

    assert sum(staged) == COUNT
    claim(storage, COUNT, owner=OWNER)
    connection.execute("UPDATE synk.client SET lease_until = now() - interval '1 s'")
    suspects = storage.leases()
    assert [lease.owner for lease in suspects] == [OWNER]

    declared = both(dsn, lambda each: each.declare_dead(suspects))
    rescued = both(dsn, lambda each: until_nothing(lambda: len(each.rescue([OWNER], 7))))

    assert sorted(declared) == [[], [OWNER]]
    assert sum(rescued) == COUNT
    rows = storage.get(list(range(1, COUNT + 1)))
    assert {(row.state, row.attempt, row.lost) for row in rows} == {(JobState.AVAILABLE, 1, 1)}
    connection.execute(
        "UPDATE synk.job SET state = 'completed', finalized_at = %s, owner = NULL", [PAST]
    )
    register(storage, OTHER)
    connection.execute("UPDATE synk.client SET seen_at = %s", [PAST])

    cleaned = both(
        dsn,
        lambda each: until_nothing(lambda: each.cleaner(JobState.COMPLETED, AN_HOUR, limit=7)),
    )
    forgotten = both(dsn, lambda each: each.forget_clients())

    assert sum(cleaned) == COUNT
    assert sum(forgotten) == 2
    assert storage.counts() == {}
