"""Limits hold for processes, through all that can happen to these, and permits do not leak."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

import synk
from support.jobs import limited
from support.supervising import (
    SupervisorProcess,
    ended,
    make_client,
    supervised,
    wait_until,
)
from synk import JobState
from synk.storage.postgres import PostgresStorage

TTL_S = 6
OPTIONS = (
    "{'processes': 2, 'workers': __import__('support.jobs.limited').jobs.limited.WORKERS,"
    f" 'lease_ttl': __import__('datetime').timedelta(seconds={TTL_S})}}"
)
FLEET = 5
KILLS = 8
KEYS = "abcd"


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with make_client(dsn, workers=limited.WORKERS) as client:
        yield client


def lines(folder: Path, name: str) -> list[str]:
    file = folder / name
    return file.read_text().splitlines() if file.exists() else []


def permits(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM synk.permit").fetchone()
    assert row
    return row[0]


def begun(folder: Path, key: str) -> int:
    return sum(line.startswith(f"{key} ") for line in lines(folder, "begun"))


def test_no_more_processes_are_at_work_for_a_key_while_supervisors_are_killed(
    client: synk.Client, dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    chance = random.Random(7)
    folder = str(tmp_path)
    options = synk.InsertOptions(max_retries=30)
    kinds = (limited.Two, limited.One)

    def some(then: str) -> list[tuple[str, object, synk.InsertOptions]]:
        return [
            ("x", kind(folder, f"{kind.__name__}-{key}", chance.uniform(0.0, 0.4), then), options)
            for kind in kinds
            for key in KEYS
            for _ in range(15)
        ]

    ids = client.insert_many([*some(""), *some("fail"), *some("die")])
    fleet = [SupervisorProcess(dsn, OPTIONS) for _ in range(FLEET)]
    try:
        for number in range(KILLS):
            before = len(lines(tmp_path, "begun"))
            wait_until(lambda before=before: len(lines(tmp_path, "begun")) >= before + 10)
            place = number % FLEET
            fleet[place].__exit__()
            fleet[place] = SupervisorProcess(dsn, OPTIONS)
        wait_until(lambda: len(lines(tmp_path, "begun")) >= len(ids) / 2)
    finally:
        for each in fleet:
            each.__exit__()
    assert permits(connection), "there was nothing left to rescue"
    with supervised(dsn, workers=limited.WORKERS, lease_ttl=timedelta(seconds=TTL_S)):
        wait_until(
            lambda: (
                connection.execute(
                    "SELECT count(*) FROM synk.job WHERE state IN ('completed', 'cancelled')"
                ).fetchone()
                == (len(ids),)
            ),
            seconds=120,
        )
        wait_until(lambda: permits(connection) == 0, seconds=TTL_S + 10)

    assert lines(tmp_path, "too many") == []
    assert begun(tmp_path, "Two-a") >= 45


def test_a_saturated_key_keeps_nobody_waiting(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    folder = str(tmp_path)
    with supervised(dsn, workers=limited.WORKERS, processes=2) as client:
        client.insert_many([("x", limited.One(folder, "busy", 20.0)) for _ in range(50)])
        wait_until(lambda: begun(tmp_path, "busy") == 1)
        # Of a key whose worker has only just begun, more may be claimed ahead: the short job of the
        # other key makes this kind a short one.
        wait_until(
            lambda: (
                connection.execute(
                    "SELECT count(*) FROM synk.job"
                    " WHERE state = 'running' AND attempted_at < clock_timestamp() - interval '1 s'"
                ).fetchone()
                == (1,)
            )
        )

        free = client.insert("x", limited.Free(folder))
        other = client.insert("x", limited.One(folder, "other"))

        assert ended(client, free).state is JobState.COMPLETED
        assert ended(client, other).state is JobState.COMPLETED
        assert begun(tmp_path, "busy") == 1
        attempts = connection.execute(
            "SELECT count(*), max(attempt) FROM synk.job WHERE kind = 'one at once'"
            " AND args->>'key' = 'busy' AND state = 'available'"
        ).fetchone()
        assert attempts is not None
        assert attempts[0] >= 47
        assert attempts[1] <= 2, "throttled jobs go round in circles"


def test_a_small_tenant_begins_at_once_beside_a_large_one(dsn: str, tmp_path: Path) -> None:
    folder = str(tmp_path)
    with supervised(dsn, workers=limited.WORKERS, processes=2) as client:
        client.insert_many([("x", limited.Two(folder, "large", 0.05)) for _ in range(3000)])
        wait_until(lambda: begun(tmp_path, "large") > 10)
        before = begun(tmp_path, "large")

        small = client.insert_many([("x", limited.Two(folder, "small", 0.05)) for _ in range(3)])
        for job_id in small:
            ended(client, job_id)

        assert begun(tmp_path, "large") - before < 100


def test_a_job_that_completed_itself_and_goes_on_is_still_the_only_one(
    dsn: str, tmp_path: Path
) -> None:
    folder = str(tmp_path)
    with supervised(dsn, workers=limited.WORKERS, processes=2) as client:
        first = client.insert("x", limited.One(folder, "k", 2.0, dsn))
        assert ended(client, first).state is JobState.COMPLETED
        assert lines(tmp_path, "done") == []

        second = client.insert("x", limited.One(folder, "k"))
        ended(client, second)

    assert lines(tmp_path, "done") == [f"k {first}", f"k {second}"]
    assert lines(tmp_path, "too many") == []


def test_a_job_that_was_stored_without_a_key_gets_it_before_it_runs(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    connection.execute(
        "INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority,"
        " name, depends_on) SELECT 'default', 'one at once', jsonb_build_object('folder',"
        " %s::text, 'key', 'sql', 'seconds', 0.05), 1, 'available', now(), 3, 'x', '{}'"
        " FROM generate_series(1, 20)",
        (str(tmp_path),),
    )
    with supervised(dsn, workers=limited.WORKERS, processes=2) as client:
        wait_until(lambda: client.storage.counts() == {JobState.COMPLETED: 20})

    assert lines(tmp_path, "too many") == []
    keys = connection.execute(
        "SELECT DISTINCT limit_key, attempt - uncounted FROM synk.job"
    ).fetchall()
    assert keys == [("one:sql", 1)]


def test_permits_go_back_when_there_is_no_work_for_them(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    folder = str(tmp_path)
    with supervised(dsn, workers=limited.WORKERS, processes=2) as client:
        ids = client.insert_many([("x", limited.Two(folder, key)) for key in KEYS])
        for job_id in ids:
            ended(client, job_id)
        wait_until(lambda: permits(connection) == 0, seconds=10)

        client.insert("x", limited.One(folder, "last", 30.0))
        wait_until(lambda: permits(connection) == 1)

    assert permits(connection) == 0, "a supervisor that has stopped has a permit"


def test_no_more_jobs_begin_in_a_time_than_the_rate_says(dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, workers=limited.WORKERS), supervised(dsn, workers=limited.WORKERS) as one:
        one.insert_many([("x", limited.Rated(str(tmp_path))) for _ in range(12)])
        wait_until(lambda: len(lines(tmp_path, "begun")) == 12)

    times = sorted(map(float, lines(tmp_path, "begun")))
    assert times[8] - times[0] > 1.5
    assert times[-1] - times[0] < 10


class Counting(PostgresStorage):
    claims = 0

    def claim_keyed(self, *args: Any, **options: Any) -> Any:
        self.claims += 1
        return super().claim_keyed(*args, **options)


def test_throttled_jobs_are_looked_for_rarely(dsn: str, tmp_path: Path) -> None:
    storage = Counting(dsn)
    with supervised(dsn, workers=limited.WORKERS, storage=storage, processes=2) as client:
        client.insert_many([("x", limited.One(str(tmp_path), "k", 6.0)) for _ in range(2000)])
        wait_until(lambda: begun(tmp_path, "k") == 1)
        before = storage.claims
        wait_until(lambda: begun(tmp_path, "k") == 2)

        assert storage.claims - before < 20
