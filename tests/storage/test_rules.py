"""The races between a producer's commit and the end of a dependency, stepped by hand."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from synk import JobState
from synk.testing.making import acknowledge, claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from synk.storage.postgres import PostgresStorage

DEADLINE_S: Final = 20
ROWS: Final = 20_000


def insert(connection: psycopg.Connection, *depends_on: int) -> int:
    row = connection.execute(
        "INSERT INTO synk.job (kind, name, args, depends_on) VALUES ('kind', 'x', '{}', %s)"
        " RETURNING id",
        (list(depends_on),),
    ).fetchone()
    assert row
    return row[0]


def state_of(connection: psycopg.Connection, job_id: int) -> str:
    row = connection.execute("SELECT state FROM synk.job WHERE id = %s", (job_id,)).fetchone()
    assert row
    return row[0]


@contextmanager
def committing(dsn: str, *depends_on: int) -> Iterator[tuple[psycopg.Connection, int]]:
    """A producer in the middle of its commit: its job is tied to its dependencies, not visible."""
    with psycopg.connect(dsn) as producer:
        job_id = insert(producer, *depends_on)
        producer.execute("SET CONSTRAINTS ALL IMMEDIATE")
        yield producer, job_id


@contextmanager
def waiting_for_a_lock(
    connection: psycopg.Connection, call: Callable[[], object]
) -> Iterator[None]:
    """Runs *call* in a thread; enters once it waits for a lock, and leaves once it has returned."""
    thread = threading.Thread(target=call)
    thread.start()
    deadline = time.monotonic() + DEADLINE_S
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    waits += " AND datname = current_database()"
    while connection.execute(waits.encode()).fetchone() == (0,):
        assert time.monotonic() < deadline
        assert thread.is_alive()
    yield
    thread.join()


@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_a_dependent_that_is_tied_while_its_dependency_is_cancelled_from_above_is_cancelled(
    dsn: str, connection: psycopg.Connection, storage: PostgresStorage, verb: str
) -> None:
    top = insert(connection)
    middle = insert(connection, top)
    with (
        committing(dsn, middle) as (producer, last),
        waiting_for_a_lock(connection, lambda: getattr(storage, verb)(top)),
    ):
        producer.commit()

    assert state_of(connection, middle) == "cancelled"
    assert state_of(connection, last) == "cancelled"


@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_a_dependency_that_ends_while_a_dependent_is_tied_to_it_takes_it_along(
    dsn: str, connection: psycopg.Connection, storage: PostgresStorage, verb: str
) -> None:
    parent = insert(connection)
    with (
        committing(dsn, parent) as (producer, child),
        waiting_for_a_lock(connection, lambda: getattr(storage, verb)(parent)),
    ):
        producer.commit()

    assert state_of(connection, child) == "cancelled"


def test_a_completion_that_is_not_committed_yet_lets_the_dependent_go(
    dsn: str, connection: psycopg.Connection
) -> None:
    parent = insert(connection)
    with psycopg.connect(dsn) as producer, psycopg.connect(dsn) as finisher:
        child = insert(producer, parent)
        finisher.execute(
            "UPDATE synk.job SET state = 'completed', finalized_at = now() WHERE id = %s", (parent,)
        )
        with waiting_for_a_lock(connection, producer.commit):
            finisher.commit()

    assert state_of(connection, child) == "available"


def test_two_that_end_shared_dependencies_in_opposite_orders_do_not_wait_for_each_other(
    dsn: str, connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    """What they end is settled when they commit, in the order of ids."""
    parents = [insert(connection) for _ in range(4)]
    first, second = insert(connection, *parents[::2]), insert(connection, *parents[1::2])
    claim(storage)
    done = "UPDATE synk.job SET state = 'completed', finalized_at = now(), owner = NULL,"
    done += " claim_seq = NULL WHERE id = %s"
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
        for user, number in ((one, 0), (other, 1), (one, 3), (other, 2)):
            user.execute(done.encode(), (parents[number],))
        one.commit()
        other.commit()

    assert state_of(connection, first) == state_of(connection, second) == "available"


def test_a_job_without_arguments_is_claimed_with_an_empty_object(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    connection.execute("INSERT INTO synk.job (kind, name) VALUES ('kind', 'x')")

    (job,) = claim(storage)

    assert job.args == "{}"


def test_dependents_are_found_by_their_index(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    parent = insert(connection)
    connection.execute(
        "INSERT INTO synk.job (kind, name) SELECT 'k', 'x' FROM generate_series(1, %s)", (ROWS,)
    )
    chain = [parent]
    for _ in range(20):
        chain.append(insert(connection, chain[-1]))
    connection.execute("ANALYZE synk.job")
    (job,) = claim(storage)
    scans = "SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables"
    scans += " WHERE relname IN ('job', 'tie', 'settling')"

    with connection.transaction():
        connection.execute(
            "UPDATE synk.job SET state = 'cancelled', cancel_reason = 'requested', owner = NULL,"
            " claim_seq = NULL, finalized_at = now() WHERE id = %s",
            (job.id,),
        )
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        read = connection.execute(scans.encode()).fetchone()

    assert read == (0,)
    assert storage.counts()[JobState.CANCELLED] == len(chain)
    assert acknowledge(storage, job) != "applied"
