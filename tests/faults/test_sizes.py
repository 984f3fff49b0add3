"""P5 and X11: what jobs and their records may weigh, however often and however much."""

from __future__ import annotations

import psycopg

from synk.failure import AttemptError
from synk.row import JobState
from synk.storage.postgres import PostgresStorage
from synk.testing.making import acknowledge, claim, fail, get, insert


def size_of(connection: psycopg.Connection, job_id: int) -> int:
    """What the row takes, before PostgreSQL compresses it."""
    row = connection.execute(
        "SELECT octet_length(j::text) FROM synk.job AS j WHERE id = %s", (job_id,)
    ).fetchone()
    assert row is not None
    return row[0]


def attempt(storage: PostgresStorage, number: int, *, error: str = "") -> None:
    """Claims the one job that is there, and fails."""
    (job,) = claim(storage, seq=number)
    if error:
        acknowledge(storage, job, state=JobState.SCHEDULED, error=error, retry_in_s=-1)
    else:
        fail(storage, job, retry_in_s=-1)
    storage.stage(1)


def test_p5_a_job_that_is_tried_again_and_again_keeps_a_small_row(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job_id = insert(storage, max_retries=1_000_000)
    for number in range(120):
        attempt(storage, number)

    row = get(storage, job_id)
    assert (row.attempt, len(row.attempted_by), len(row.errors)) == (120, 100, 20)
    assert [error.attempt for error in row.errors] == list(range(101, 121))
    assert size_of(connection, job_id) < 50_000


def test_p5_a_row_that_has_grown_is_cut_by_its_next_attempt(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job_id = insert(storage, max_retries=1_000_000)
    connection.execute(
        "UPDATE synk.job SET attempt = 10000,"
        " attempted_by = array_fill('01HZXJ7V8Z6V3QK2M5N4P7R9ST'::text, ARRAY[10000]),"
        " errors = array_fill(jsonb_build_object('error', repeat('x', 100)), ARRAY[10000])"
    )
    attempt(storage, 1)

    row = get(storage, job_id)
    assert (row.attempt, len(row.attempted_by), len(row.errors)) == (10_001, 100, 20)
    assert size_of(connection, job_id) < 200_000


def test_p5_the_largest_records_of_errors_are_twenty_times_64_kib(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job_id = insert(storage, max_retries=1_000_000)
    huge = AttemptError(attempt=1, error="e" * 10**6, trace="t" * 10**6, output="o" * 10**6)
    for number in range(22):
        attempt(storage, number, error=huge.to_json())

    assert size_of(connection, job_id) < 20 * 64 * 1024 + 10_000
