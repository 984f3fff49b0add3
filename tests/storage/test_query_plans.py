"""The hot statements keep their plans right after a bulk load, with statistics and without."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from synk.job import Outcome
from synk.runtime.acks import ACK_JOBS
from synk.storage.connecting import connect_options
from synk.storage.statements import Statements

ROWS = 50_000
OWNER = uuid.UUID(int=7)
STATEMENTS = Statements()


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    """A connection as synk makes its own."""
    with psycopg.connect(dsn, autocommit=True, **connect_options(dsn)) as connection:
        yield connection


@pytest.fixture(params=["fresh", "analyzed"])
def loaded(request: pytest.FixtureRequest, connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute(
        "INSERT INTO synk.job (kind, name, args)"
        f" SELECT 'k', 'x', '{{}}' FROM generate_series(1, {ROWS})".encode()
    )
    connection.execute(
        "INSERT INTO synk.job (kind, name, state, finalized_at)"
        f" SELECT 'k', 'x', 'completed', now() FROM generate_series(1, {ROWS})".encode()
    )
    if request.param == "analyzed":
        connection.execute("ANALYZE synk.job")
    return connection


def plan_of(connection: psycopg.Connection, statement, mode: str) -> str:
    """The plan under *mode*, of the statement as psycopg sends it."""
    connection.execute(f"SET plan_cache_mode = force_{mode}_plan".encode())
    explained = connection.execute(
        b"EXPLAIN (FORMAT JSON) " + statement.text.encode(), statement.parameters, prepare=True
    ).fetchone()
    assert explained is not None
    return json.dumps(explained[0])


def indexes(plan: str) -> set[str]:
    return set(re.findall(r'"Index Name": "(\w+)"', plan))


@pytest.mark.parametrize("mode", ["custom", "generic"])
def test_a_claim_reads_the_head_of_its_index(loaded: psycopg.Connection, mode: str) -> None:
    statement = STATEMENTS.claim("default", 500, kinds=["k"], owner=OWNER, claim_seq=1)

    plan = plan_of(loaded, statement, mode)

    assert indexes(plan) == {"job_claim", "job_pkey", "client_pkey"}
    assert '"Node Type": "Sort"' not in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("count", [1, 100, ACK_JOBS])
@pytest.mark.parametrize("form", ["ack", "ack_plain"])
def test_an_acknowledgement_goes_by_the_primary_key(
    loaded: psycopg.Connection, mode: str, count: int, form: str
) -> None:
    outcomes = [Outcome(n, 1, 1) for n in range(1, count + 1)]
    statement = getattr(STATEMENTS, form)(OWNER, outcomes)

    plan = plan_of(loaded, statement, mode)

    assert indexes(plan) == {"job_pkey", "job_waiting"}
    assert '"Seq Scan"' not in plan


def test_staging_reads_only_what_is_due(loaded: psycopg.Connection) -> None:
    plan = plan_of(loaded, STATEMENTS.stage(1000), "custom")

    assert "job_due" in indexes(plan)
    assert '"Seq Scan"' not in plan


def test_cancel_requests_are_found_by_their_index(loaded: psycopg.Connection) -> None:
    plan = plan_of(loaded, STATEMENTS.cancel_requests(OWNER), "generic")

    assert indexes(plan) <= {"job_cancel_requested", "job_owner"}
    assert indexes(plan)
