"""P: exceptions, results and arguments that are hard to carry, through workers and the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

import synk
from support.facts import Facts
from support.jobs import hostile
from support.jobs.typed import Everything
from support.servers import Server
from support.supervising import ended, make_client, supervised, wait_until
from synk import CancelReason, Cause, JobState, telemetry
from synk.arguments import ARGS_BYTES_MAX, encode_args
from synk.storage.postgres import PostgresStorage

ONCE = synk.InsertOptions(max_retries=0)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[synk.Client]:
    """One supervisor for all: nothing that a job raises or returns ends it, or its worker."""
    with (
        server.database() as dsn,
        supervised(dsn, workers=hostile.WORKERS, processes=1) as client,
    ):
        yield client


def test_p1_any_exception_comes_back_from_a_worker(client: synk.Client) -> None:
    facts = Facts(client)
    numbers = range(len(hostile.HARD_TO_CARRY))
    ids = client.insert_many([("x", hostile.Raise(number), ONCE) for number in numbers])

    errors = [ended(client, job_id).errors for job_id in ids]

    assert all(len(error) == 1 and error[0].error for error in errors)
    assert [(n, e[0]) for n, e in enumerate(errors) if e[0].cause is not Cause.EXCEPTION] == []
    assert facts.of(telemetry.OutcomeReduced) == []
    assert all(isinstance(error[0].as_exception(), BaseException) for error in errors)


def test_p3_an_exception_that_never_says_what_it_is_ends_with_the_jobs_time(
    client: synk.Client,
) -> None:
    row = ended(client, client.insert("x", hostile.NeverSay(), ONCE))

    (error,) = row.errors
    assert (error.cause, "__str__" in error.trace) == (Cause.TIMEOUT, True)


REFUSED = {
    "nul": "the result holds a NUL character",
    "surrogate": "the result is not JSON",
    "umlauts": "the result is 80002 bytes",
    "number": "the result is not JSON",
    "too large": "the result is 65537 bytes",
    "keys": "the result is not JSON",
}
KEPT = {
    "infinite": {"a": [None]},
    "escaped nul": "a\\u0000b",
    "escape": "\x1b[2J",
    "largest": "x" * (64 * 1024 - 2),
    "numbers as keys": {"1": 2},
}


def test_p4_p6_a_result_is_stored_as_it_is_or_fails_the_attempt_and_says_why(
    client: synk.Client,
) -> None:
    facts = Facts(client)
    rows = {
        name: ended(client, client.insert("x", hostile.Give(name), ONCE))
        for name in hostile.RESULTS
    }

    said = {name: row.errors[0].error for name, row in rows.items() if row.errors}
    assert set(said) == set(REFUSED)
    assert all(said[name].startswith(f"ValueError: {text}") for name, text in REFUSED.items())
    assert {name: rows[name].result for name in KEPT} == KEPT
    # The worker says so; it is not left to the database.
    assert facts.of(telemetry.OutcomeReduced) == []


@pytest.mark.parametrize("name", hostile.TIMEOUTS)
def test_p9_a_time_limit_is_finite_or_fails_the_attempt(client: synk.Client, name: str) -> None:
    row = ended(client, client.insert("x", hostile.Extreme(timeout=name), ONCE))

    (error,) = row.errors
    if name in ("none", "the longest"):
        assert error.error == "RuntimeError: as asked"
    else:
        assert "timeout() returned" in error.error


def failed(client: synk.Client, job_id: int) -> synk.JobRow | None:
    row = client.get(job_id)
    return row if row is not None and row.errors else None


@pytest.mark.parametrize("name", hostile.RETRIES)
def test_p9_a_failed_job_waits_for_the_time_it_names_or_for_the_back_off(
    client: synk.Client, name: str
) -> None:
    job_id = client.insert("x", hostile.Extreme(retry=name))

    row = wait_until(lambda: failed(client, job_id))

    client.cancel(job_id)
    at = row.errors[0].at
    assert at is not None
    waits = row.scheduled_at - at
    years = {"at once": 1, "on the last day": 9999}
    if name in years:
        assert row.scheduled_at.year == years[name]
    else:
        assert timedelta(seconds=3) < waits < timedelta(seconds=5)


def test_p5_arguments_of_just_the_largest_size_are_stored_and_larger_ones_are_not(
    storage: PostgresStorage,
) -> None:
    empty = len(encode_args(Everything())[1])
    largest = Everything(text="x" * (ARGS_BYTES_MAX - empty))
    with make_client(storage.connector.conninfo(), storage=storage) as client:
        job_id = client.insert("x", largest)
        largest.text += "x"
        with pytest.raises(synk.InvalidJob, match="1048577 bytes of JSON, at most 1048576"):
            client.insert("x", largest)

        row = client.get(job_id)

    assert row is not None
    assert isinstance(row.args, dict)
    assert len(json.dumps(row.args, separators=(",", ":"))) == ARGS_BYTES_MAX


def test_p8_arguments_of_newer_code_fail_the_attempt_and_are_tried_again_later(
    dsn: str, connection: psycopg.Connection
) -> None:
    with supervised(dsn, workers=hostile.WORKERS) as client:
        row = connection.execute(
            "INSERT INTO synk.job (kind, name, max_attempts, args) VALUES"
            " ('give', 'x', 1, '{\"title\": \"renamed\"}') RETURNING id"
        ).fetchone()
        assert row is not None
        last = ended(client, row[0])
        # A field more than old code knows is no reason to fail.
        more = connection.execute(
            "INSERT INTO synk.job (kind, name, args) VALUES"
            " ('give', 'x', '{\"name\": \"escape\", \"more\": 1}') RETURNING id"
        ).fetchone()
        assert more is not None
        assert ended(client, more[0]).state is JobState.COMPLETED

    assert (last.cancel_reason, last.errors[0].cause) == (CancelReason.FAILED, Cause.DECODE)
    assert "name" in last.errors[0].error
