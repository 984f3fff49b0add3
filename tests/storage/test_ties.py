"""Many jobs behind one, and one behind many: what it costs, and that nobody is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg
import pytest

import synk
from support.jobs import handlers
from support.supervising import ended, supervised, wait_until
from support.tying import check, complete, dependents, ties, value
from synk import CancelReason, Change, JobState
from synk.claim import AckAnswer
from synk.testing.making import (
    OWNER,
    acknowledge,
    claim,
    fail,
    get,
    insert,
    new_job,
    outcome_of,
    state_of,
)

if TYPE_CHECKING:
    from synk.storage.postgres import PostgresStorage

AT_ONCE: Final = 10_001
"""As many dependents as the transaction settles that ends one job."""

BEYOND: Final = 200


# -- many behind which one waits ------------------------------------------------------------------


def wal_of_each_completion(
    connection: psycopg.Connection, storage: PostgresStorage, parents: int
) -> float:
    ids = storage.insert([new_job()] * parents)
    child = insert(storage, depends_on=tuple(ids), kind="child")
    wal = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
    used = 0
    while jobs := claim(storage, 100):
        before = value(connection, wal)
        storage.update_job_state(OWNER, [outcome_of(job) for job in jobs])
        used += value(connection, wal) - before
    assert state_of(storage, child) is JobState.AVAILABLE
    return used / parents


def test_what_a_completion_writes_does_not_grow_with_those_that_are_waited_for_beside_it(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    few = wal_of_each_completion(connection, storage, 500)
    many = wal_of_each_completion(connection, storage, 4000)

    assert many / few < 1.5


def test_completions_one_by_one_write_no_more_for_many(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    """The row that waits is written anew each time, and not what it waits for."""
    ids = storage.insert([new_job()] * 3000)
    insert(storage, depends_on=tuple(ids))
    jobs = claim(storage, 50)
    wal = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
    before = value(connection, wal)

    for job in jobs:
        acknowledge(storage, job)

    # 3,000 ids are 24 kB.
    assert (value(connection, wal) - before) / len(jobs) < 4000


def test_a_job_that_waits_for_thousands_is_listed_with_those_that_are_left(
    storage: PostgresStorage,
) -> None:
    ids = storage.insert([new_job()] * 3000)
    child = insert(storage, depends_on=tuple(reversed(ids)))
    storage.update_job_state(OWNER, [outcome_of(job) for job in claim(storage, 1000)])

    assert get(storage, child).waiting_on == ids[:999:-1]
    assert get(storage, child).depends_on == ids[::-1]


def test_completions_in_open_transactions_hold_up_no_other_dependency(
    dsn: str, connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    """As with `complete_tx`, however long that transaction goes on."""
    first, second = (insert(storage) for _ in range(2))
    child = insert(storage, depends_on=(first, second))
    one, other = claim(storage)
    with psycopg.connect(dsn) as user:
        complete(user, one)

        assert acknowledge(storage, other) is AckAnswer.APPLIED

        user.commit()
    assert state_of(storage, child) is JobState.AVAILABLE
    check(connection)


# -- many behind one ------------------------------------------------------------------------------


def finish(storage: PostgresStorage, end: str) -> None:
    (job,) = claim(storage)
    if end == "completed":
        acknowledge(storage, job)
    elif end == "failed":
        fail(storage, job, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)
    else:
        acknowledge(storage, job, state=JobState.AVAILABLE, uncharged=True)
        assert storage.delete(job.id) is Change.APPLIED


@pytest.mark.parametrize("end", ["completed", "failed", "deleted"])
def test_d31_more_dependents_than_one_transaction_settles_all_follow(
    connection: psycopg.Connection, storage: PostgresStorage, end: str
) -> None:
    parent = insert(storage)
    dependents(connection, parent, count=AT_ONCE + BEYOND, kind="child")
    state = JobState.AVAILABLE if end == "completed" else JobState.CANCELLED

    finish(storage, end)

    assert storage.counts()[JobState.PENDING] == BEYOND
    check_unsettled(connection, [parent])
    assert storage.settle(10) == 1
    assert storage.settle(10) == 0
    counts = storage.counts()
    assert counts[state] == AT_ONCE + BEYOND + (end == "failed")
    assert JobState.PENDING not in counts
    assert ties(connection) == 0
    check_unsettled(connection, [])


def check_unsettled(connection: psycopg.Connection, ids: list[int]) -> None:
    rows = connection.execute("SELECT id FROM synk.unsettled ORDER BY id").fetchall()
    assert [job_id for (job_id,) in rows] == ids


def test_a_supervisor_goes_on_with_those_that_were_too_many(
    dsn: str, connection: psycopg.Connection
) -> None:
    with supervised(dsn, processes=1) as client:
        hold = synk.InsertOptions(pending=True)
        parent = client.insert("parent", handlers.Noop(), hold)
        dependents(connection, parent, count=AT_ONCE + BEYOND, kind="nobody's")
        client.ready(parent)
        ended(client, parent)

        wait_until(lambda: client.storage.counts().get(JobState.PENDING) is None)
        counts = client.storage.counts()

    assert counts[JobState.AVAILABLE] == AT_ONCE + BEYOND


def test_a_chain_of_any_length_is_cancelled_as_a_whole(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    length = AT_ONCE // 3 + BEYOND
    connection.execute(
        "INSERT INTO synk.job (id, kind, name, depends_on)"
        " SELECT n, 'k', 'x', CASE WHEN n > 1 THEN ARRAY[n - 1] ELSE '{}' END"
        " FROM generate_series(1::bigint, %s) AS n",
        (length,),
    )

    storage.cancel(1)
    check(connection)
    while storage.settle(10):
        pass

    assert storage.counts() == {JobState.CANCELLED: length}
    assert ties(connection) == 0


def test_two_that_go_on_at_once_take_different_jobs(
    dsn: str, connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    parents = [insert(storage) for _ in range(2)]
    children = [dependents(connection, parent, count=3, kind="child") for parent in parents]
    connection.execute("ALTER TABLE synk.job DISABLE TRIGGER job_after_end")
    for job in claim(storage):
        acknowledge(storage, job)
    connection.execute("ALTER TABLE synk.job ENABLE TRIGGER job_after_end")
    connection.execute("INSERT INTO synk.unsettled SELECT unnest(%s::bigint[])", (parents,))
    with psycopg.connect(dsn) as other:
        other.execute("SELECT FROM synk.unsettled WHERE id = %s FOR UPDATE", (parents[0],))

        assert storage.settle(10) == 1

    assert {state_of(storage, job_id) for job_id in children[1]} == {JobState.AVAILABLE}
    assert {state_of(storage, job_id) for job_id in children[0]} == {JobState.PENDING}
    assert storage.settle(10) == 1
    assert {state_of(storage, job_id) for job_id in children[0]} == {JobState.AVAILABLE}


def test_what_is_left_to_settle_follows_what_its_job_is_by_then(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    """One that was made available again is waited for again; one that was removed had completed."""
    parents = [insert(storage) for _ in range(2)]
    for parent in parents:
        dependents(connection, parent, count=AT_ONCE + 1, kind="child")
    for job in claim(storage):
        acknowledge(storage, job)
    again, removed = parents
    assert storage.retry(again) is Change.APPLIED
    assert storage.delete(removed) is Change.APPLIED

    while storage.settle(10):
        pass

    (left,) = storage.jobs(state=JobState.PENDING)
    assert storage.get([left.id])[0].waiting_on == [again]
    acknowledge(storage, claim(storage)[0])
    assert JobState.PENDING not in storage.counts()


def test_a_retried_dependent_is_let_go_by_what_it_waits_for_and_nothing_else(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    """Not by what was left over from before, of a dependency that had completed by then."""
    parent, other = insert(storage), insert(storage, kind="other")
    dependents(connection, parent, count=AT_ONCE, kind="child")
    last = insert(storage, depends_on=(parent, other), kind="child")
    storage.cancel(last)
    finish(storage, "completed")
    check_unsettled(connection, [parent])

    assert storage.retry(last) is Change.APPLIED
    storage.settle(10)

    row = get(storage, last)
    assert (row.state, row.waiting_on) == (JobState.PENDING, [other])
    check(connection)
    acknowledge(storage, claim(storage, kinds=["other"])[0])
    assert state_of(storage, last) is JobState.AVAILABLE


def test_a_statement_of_ones_own_that_ends_more_than_that_lets_the_dependent_go(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    """What it may settle grows with what it ends."""
    ids = storage.insert([new_job()] * (AT_ONCE + BEYOND))
    connection.execute(
        "INSERT INTO synk.job (kind, name, depends_on) VALUES ('k', 'x', %s)", (ids,)
    )

    connection.execute("UPDATE synk.job SET state = 'completed' WHERE state = 'available'")

    assert storage.counts() == {JobState.COMPLETED: len(ids), JobState.AVAILABLE: 1}
    check_unsettled(connection, [])


@pytest.mark.parametrize("removal", ["TRUNCATE synk.job", "DELETE FROM synk.job"])
def test_jobs_whose_numbers_come_again_do_not_meet_ties_of_before(
    connection: psycopg.Connection, storage: PostgresStorage, removal: str
) -> None:
    insert_as = "INSERT INTO synk.job (id, kind, name, args, depends_on)"
    insert_as += " VALUES (%s, 'kind', 'x', '{}', %s)"
    for job_id, depends_on in ((1, []), (2, []), (5, [1])):
        connection.execute(insert_as.encode(), (job_id, depends_on))
    connection.execute(removal.encode())
    for job_id, depends_on in ((1, []), (2, []), (4, [1]), (5, [2])):
        connection.execute(insert_as.encode(), (job_id, depends_on))

    acknowledge(storage, claim(storage, 1)[0])

    assert [state_of(storage, job_id) for job_id in (4, 5)] == [
        JobState.AVAILABLE,
        JobState.PENDING,
    ]
    check(connection)


def test_an_end_that_is_taken_back_in_its_transaction_ends_nothing(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    parent = insert(storage)
    child = insert(storage, depends_on=(parent,))

    with connection.transaction():
        connection.execute("UPDATE synk.job SET state = 'completed' WHERE id = %s", (parent,))
        connection.execute("UPDATE synk.job SET state = 'available' WHERE id = %s", (parent,))

    assert state_of(storage, child) is JobState.PENDING
    with connection.transaction():
        connection.execute("SAVEPOINT a")
        connection.execute("UPDATE synk.job SET state = 'completed' WHERE id = %s", (parent,))
        connection.execute("ROLLBACK TO a")
    assert state_of(storage, child) is JobState.PENDING
    with connection.transaction():
        connection.execute("UPDATE synk.job SET state = 'completed' WHERE id = %s", (parent,))
        connection.execute("DELETE FROM synk.job WHERE id = %s", (parent,))
    assert state_of(storage, child) is JobState.AVAILABLE
    check(connection)


def test_a_list_of_lists_of_dependencies_is_refused(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="array of arrays"):
        connection.execute(
            "INSERT INTO synk.job (kind, name, depends_on) VALUES ('k', 'x', '{{1,2},{3,4}}')"
        )
