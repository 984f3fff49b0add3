"""D13: rows that no client of ours would write, in front of good ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from io import StringIO

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from rich.console import Console

import synk
from support.jobs import handlers
from support.servers import Server
from support.supervising import ended, supervised
from synk import CancelReason, Cause, JobState
from synk.claim import AckAnswer
from synk.retry import Verdict, judge
from synk.show.jobs import job_table, one_job
from synk.show.stats import summary_table
from synk.storage.postgres import PostgresStorage
from synk.testing.making import acknowledge, claim

DEEP = "[" * 3000 + "]" * 3000
DIGITS = "9" * 5000

UNDECODABLE = {
    "digits": f'{{"count": {DIGITS}, "tags": [{DIGITS}]}}',
    "depth": f'{{"count": 1, "tags": {DEEP}}}',
    "number": "5",
    "list": "[]",
    "string": '"x"',
    "null": "null",
}

STRANGE = {
    "attempt": "1999999999",
    "max_attempts": "2147483647",
    "errors": "ARRAY['5', 'null', '[[]]', NULL, '{\"error\": {}, \"attempt\": \"x\"}']::jsonb[]",
    "attempted_by": "array_fill(NULL::text, ARRAY[50000])",
    "name": r"E'\u202e\n\x1b[2J'",
    "checkpoint": f"'{DEEP}'",
    "progress": "'[1]'",
    "args": "NULL",
}
"""A column -> a value that the table takes."""


def put_first(connection: psycopg.Connection, kind: str, columns: str, values: str) -> int:
    text = f"INSERT INTO synk.job (kind, priority, {columns}) VALUES ('{kind}', 1, {values})"
    row = connection.execute(f"{text} RETURNING id".encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("args", UNDECODABLE.values(), ids=UNDECODABLE)
def test_d13_arguments_that_cannot_be_decoded_are_a_failed_attempt_and_hold_nobody_up(
    dsn: str, connection: psycopg.Connection, args: str
) -> None:
    bad = put_first(connection, "typed", "name, max_attempts, args", f"'bad', 1, '{args}'")
    with supervised(dsn) as client:
        good = [client.insert("good", handlers.Noop()) for _ in range(3)]

        assert {ended(client, job_id).state for job_id in good} == {JobState.COMPLETED}
        row = ended(client, bad)

    assert row.state is JobState.CANCELLED
    assert row.errors[0].cause is Cause.DECODE


def test_d13_arguments_that_are_null_are_the_types_defaults(
    dsn: str, connection: psycopg.Connection
) -> None:
    plain = put_first(connection, "noop", "name, args", "'null', 'null'")
    lacking = put_first(connection, "typed", "name, max_attempts, args", "'null', 1, 'null'")
    with supervised(dsn) as client:
        assert ended(client, plain).state is JobState.COMPLETED
        (error,) = ended(client, lacking).errors

    assert error.cause is Cause.DECODE
    assert "count" in error.error


@pytest.mark.parametrize("column", STRANGE)
def test_d13_a_row_with_a_strange_value_runs_as_any_other(
    dsn: str, connection: psycopg.Connection, column: str
) -> None:
    columns, values = (column, STRANGE[column])
    if column != "name":
        columns, values = f"name, {columns}", f"'bad', {values}"
    bad = put_first(connection, "noop", columns, values)
    with supervised(dsn) as client:
        good = [client.insert("good", handlers.Noop()) for _ in range(3)]

        assert {ended(client, job_id).state for job_id in good} == {JobState.COMPLETED}
        assert ended(client, bad).state is JobState.COMPLETED


REFUSED = {
    "attempt": "2147483647",
    "uncounted": "2147483647",
    "crashes": "2147483647",
    "lost": "2147483647",
    "created_at": "'-infinity'",
    "scheduled_at": "'infinity'",
    "attempted_at": "'4000-01-01 BC'",
    "args": "to_jsonb(repeat('x', 9000000))",
    "state, cancel_reason, finalized_at": "'cancelled', 'failed', 'infinity'",
    "finalized_at, cancel_reason, state": "'10000-01-01 00:00+00', 'failed', 'cancelled'",
    "cancel_requested_at": "'-infinity'",
    "errors": "ARRAY[ARRAY['{}']]::jsonb[]",
    "attempted_by": "'{{a,b}}'",
}
"""A column -> a value that the table refuses, since nobody could read it or count it further."""


@pytest.mark.parametrize("column", REFUSED)
def test_d13_what_could_be_neither_read_nor_counted_is_refused_by_the_table(
    connection: psycopg.Connection, column: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        put_first(connection, "noop", f"name, {column}", f"'bad', {REFUSED[column]}")


def test_d13_a_row_that_python_cannot_read_is_shown_by_its_text(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    job_id = put_first(connection, "noop", "name, args", f"'bad', '[{DIGITS}]'")
    connection.execute(
        "UPDATE synk.job SET errors = ARRAY[%s, %s]::jsonb[], result = %s, checkpoint = %s,"
        " progress = %s",
        ("{}", DEEP, DIGITS, DEEP, DIGITS),
    )

    (row,) = storage.get([job_id])
    assert (row.args, row.result) == (f"[{DIGITS}]", DIGITS)
    assert row.checkpoint == DEEP
    assert row.progress is None
    assert "[[[[" in row.errors[0].error
    assert [listed.id for listed in storage.jobs()] == [job_id]


OLD_ROWS = {
    "finalized_at": "'infinity'",
    "cancel_requested_at": "'-infinity'",
    "created_at": "'4000-01-01 BC'",
    "scheduled_at": "'infinity'",
    "attempted_at": "'20000-01-01'",
    "errors": "ARRAY[ARRAY['{}', NULL]]::jsonb[]",
    "attempted_by": "'[5:6]={a,NULL}'",
    "depends_on": "'{{1,2},{3,NULL}}'",
    "progress": """'{"done": "x", "total": true, "note": 5}'""",
    "cpu_us": "9223372036854775807",
    "peak_rss_bytes": "9223372036854775807",
    "output": r"E'\u202e\x01'",
}
"""A column -> a value that no bounds kept out once."""


@pytest.fixture
def own_dsn(server: Server) -> Iterator[str]:
    """A database whose rules may be taken away: no other test has it."""
    with server.database() as dsn:
        yield dsn


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_d13_no_row_that_is_there_stands_in_the_way_of_a_listing(own_dsn: str, zone: str) -> None:
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        put_old_rows(connection)
    storage = PostgresStorage(make_conninfo(own_dsn, options=f"-c timezone={zone}"))
    with synk.Client(storage=storage) as client:
        rows = client.storage.jobs(state=None, queue=None, kind=None, limit=100)
        now = datetime.now(timezone.utc)
        console = Console(file=StringIO())
        console.print(job_table(rows, now))
        for row in storage.get([each.id for each in rows]):
            console.print(one_job(row, now))
        console.print(summary_table(storage.summary()))

    assert len(rows) == 3 * len(OLD_ROWS)


def put_old_rows(connection: psycopg.Connection) -> None:
    checks = connection.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'synk.job'::regclass AND contype = 'c'"
    ).fetchall()
    for (name,) in checks:
        connection.execute(f"ALTER TABLE synk.job DROP CONSTRAINT {name}".encode())
    connection.execute("ALTER TABLE synk.job DISABLE TRIGGER USER")
    for column, value in OLD_ROWS.items():
        for _ in range(3):
            put_first(
                connection,
                "noop",
                f"name, state, {column}",
                f"'bad', 'cancelled', {value}",
            )


def test_d13_a_count_at_its_bound_ends_like_any_other(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    job_id = put_first(connection, "kind", "name, attempt", "'bad', 2000000000")

    (job,) = claim(storage)

    assert (job.id, job.attempt) == (job_id, 2_000_000_000)
    assert judge(job, Verdict.FAILED).outcome.cancel_reason is CancelReason.FAILED
    assert acknowledge(storage, job) is AckAnswer.APPLIED
