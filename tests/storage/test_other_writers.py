"""What others write by plain SQL: the client and the worker of the Go package, and people in psql.

The statements of the Go package are those of its `storage/postgresql/queries/data.go`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import product
from typing import Final

import psycopg
import pytest

import synk
from support.checking import History, Image, image_of
from support.jobs import handlers
from support.servers import Server
from support.supervising import ended, is_running, make_client, supervised, wait_until
from synk import CancelReason, Cause, Change, JobState
from synk.claim import AckAnswer, Outcome
from synk.row import JobRow
from synk.storage.postgres import PostgresStorage
from synk.storage.statements import client_id_of
from synk.testing.making import OWNER, claim, fail, insert, job_in, raised, register

GO_INSERT: Final = """
INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority, name,
  depends_on)
VALUES (%s, 'kind', '{}'::jsonb, 7, %s, clock_timestamp(), 3, 'from Go', %s::bigint[]) RETURNING id
"""
GO_CLAIM: Final = """
WITH jobs AS (
  SELECT id, args, kind, attempt, max_attempts
  FROM synk.job
  WHERE state in ('available', 'scheduled') AND queue = %s::TEXT
    AND scheduled_at <= COALESCE(NULL::TIMESTAMPTZ, NOW())
    AND attempt < max_attempts AND NOT EXISTS (
      SELECT 1 FROM unnest(depends_on) dep_id
      WHERE NOT EXISTS (
        SELECT 1 FROM synk.job
        WHERE id = dep_id AND state = 'completed'
      )
    )
  ORDER BY priority ASC, scheduled_at ASC, id ASC
  LIMIT %s::INTEGER
  FOR UPDATE SKIP LOCKED
) UPDATE synk.job SET
  state = 'running',
  attempt = job.attempt + 1,
  attempted_at = NOW(),
  attempted_by = array_append(job.attempted_by, '01JDGO'::TEXT)
FROM jobs
WHERE job.id = jobs.id
RETURNING job.id, job.args, job.kind, job.attempt, job.max_attempts
"""
GO_SUCCESS: Final = (
    "UPDATE synk.job SET state = 'completed', finalized_at = clock_timestamp() WHERE id = %s"
)
GO_FAILURE: Final = (
    "UPDATE synk.job SET state = %s, errors = array_append(errors, jsonb_build_object("
    "'at', now(), 'attempt', attempt, 'error', 'boom', 'trace', 'goroutine 1')) WHERE id = %s"
)
GO_RETRY: Final = """
WITH job_locked AS (
  SELECT id FROM synk.job
  WHERE id = %s
  FOR UPDATE SKIP LOCKED
) UPDATE synk.job J SET
  state = 'available',
  attempt = 0,
  attempted_at = NULL,
  finalized_at = NULL,
  scheduled_at = now()
FROM job_locked JL
WHERE J.id = JL.id AND J.state != 'running'
AND NOT (J.state = 'available' AND J.scheduled_at < now())
"""
GO_CANCEL: Final = """
WITH job_locked AS (
  SELECT id FROM synk.job
  WHERE id = %s
  FOR UPDATE SKIP LOCKED
)
UPDATE synk.job J
SET state = 'cancelled', finalized_at = now()
FROM job_locked JL
WHERE J.id = JL.id AND J.state not in ('running', 'cancelled', 'completed')
"""
GO_DELETE: Final = "DELETE FROM synk.job WHERE id = %s"


@pytest.fixture
def storage(server: Server) -> Iterator[PostgresStorage]:
    storage = PostgresStorage(server.emptied())
    yield storage
    storage.close()


@pytest.fixture
def connection(server: Server, storage: PostgresStorage) -> Iterator[psycopg.Connection]:
    del storage  # it has emptied the database
    with psycopg.connect(server.dsn_of(server._kept or ""), autocommit=True) as connection:
        yield connection


def got(storage: PostgresStorage, job_id: int) -> JobRow:
    (row,) = storage.get([job_id])
    return row


def go_insert(
    connection: psycopg.Connection,
    *depends_on: int,
    state: str = "available",
    queue: str = "default",
) -> int:
    row = connection.execute(GO_INSERT, (queue, state, list(depends_on))).fetchone()
    assert row is not None
    return row[0]


def go_claim(connection: psycopg.Connection, queue: str = "default", limit: int = 10) -> list[int]:
    return [row[0] for row in connection.execute(GO_CLAIM, (queue, limit)).fetchall()]


def run_elsewhere(connection: psycopg.Connection) -> int:
    """A job that a worker of the Go package runs."""
    job_id = go_insert(connection)
    assert go_claim(connection) == [job_id]
    return job_id


def test_a_go_worker_runs_a_job_to_its_end(connection, storage) -> None:
    job_id = run_elsewhere(connection)
    row = got(storage, job_id)
    assert (row.state, row.attempt, row.attempted_by) == (JobState.RUNNING, 1, ["01JDGO"])

    connection.execute(GO_SUCCESS, (job_id,))

    row = got(storage, job_id)
    assert (row.state, row.errors, row.cancel_reason) == (JobState.COMPLETED, [], None)


def test_a_go_worker_lets_the_dependents_of_a_job_go(connection, storage) -> None:
    parent = run_elsewhere(connection)
    child = go_insert(connection, parent)
    assert go_claim(connection) == []
    assert got(storage, child).state is JobState.PENDING

    connection.execute(GO_SUCCESS, (parent,))

    assert go_claim(connection) == [child]


def test_a_job_that_fails_for_good_at_a_go_worker_cancels_its_dependents(
    connection, storage
) -> None:
    parent = run_elsewhere(connection)
    child = go_insert(connection, parent)

    connection.execute(GO_FAILURE, ("cancelled", parent))

    row = got(storage, parent)
    assert (row.cancel_reason, [e.error for e in row.errors]) == (CancelReason.FAILED, ["boom"])
    assert row.finalized_at is not None
    assert got(storage, child).cancel_reason is CancelReason.DEPENDENCY


def test_a_job_that_fails_at_a_go_worker_is_tried_again(connection, storage) -> None:
    job_id = run_elsewhere(connection)

    connection.execute(GO_FAILURE, ("available", job_id))

    assert go_claim(connection) == [job_id]
    row = got(storage, job_id)
    assert (row.attempt, [e.attempt for e in row.errors]) == (2, [1])


def test_the_go_clients_cancel_is_one(connection, storage) -> None:
    parent = go_insert(connection)
    child = go_insert(connection, parent)
    held = go_insert(connection, state="pending")

    for job_id in (parent, held):
        connection.execute(GO_CANCEL, (job_id,))

    rows = storage.get([parent, held, child])
    assert [row.cancel_reason for row in rows] == [
        CancelReason.REQUESTED,
        CancelReason.DEPENDENCY,
        CancelReason.REQUESTED,
    ]
    assert claim(storage) == []


@pytest.mark.parametrize("state", ["completed", "cancelled", "scheduled", "failed"])
def test_the_go_clients_retry_is_one(connection, storage, state: str) -> None:
    if state == "failed":
        insert(storage, max_retries=0)
        (job,) = claim(storage)
        fail(storage, job, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)
        job_id = job.id
    else:
        job_id = job_in(storage, JobState(state))
    before = got(storage, job_id)

    connection.execute(GO_RETRY, (job_id,))

    row = got(storage, job_id)
    assert (row.state, row.attempt) == (JobState.AVAILABLE, before.attempt)
    assert row.finalized_at is row.cancel_reason is row.result is None
    assert go_claim(connection) == [job_id]


def test_the_go_clients_retry_lets_a_held_job_go_and_no_waiting_one(connection, storage) -> None:
    held = go_insert(connection, state="pending")
    parent = insert(storage, queue="other")
    waiting = go_insert(connection, parent, state="pending")

    for job_id in (held, waiting):
        connection.execute(GO_RETRY, (job_id,))

    assert got(storage, held).state is JobState.AVAILABLE
    row = got(storage, waiting)
    assert (row.state, row.waiting_on) == (JobState.PENDING, [parent])
    assert go_claim(connection) == [held]
    go_claim(connection, "other")
    connection.execute(GO_SUCCESS, (parent,))
    assert go_claim(connection) == [waiting]


def test_the_go_clients_retry_respects_what_a_job_depends_on(connection, storage) -> None:
    parent = go_insert(connection)
    child = go_insert(connection, parent)
    connection.execute(GO_CANCEL, (parent,))

    with pytest.raises(psycopg.Error, match=f"depends on {parent}, which is cancelled"):
        connection.execute(GO_RETRY, (child,))
    for job_id in (parent, child):
        connection.execute(GO_RETRY, (job_id,))

    assert go_claim(connection) == [parent]
    connection.execute(GO_SUCCESS, (parent,))
    assert go_claim(connection) == [child]


def test_a_job_that_the_go_client_deletes_never_completed(connection, storage) -> None:
    first, second, third = (go_insert(connection) for _ in range(3))
    child = go_insert(connection, second)
    for job_id in go_claim(connection):
        if job_id != second:
            connection.execute(GO_SUCCESS, (job_id,))
    for job_id in (first, second, third):
        connection.execute(GO_DELETE, (job_id,))

    assert got(storage, child).cancel_reason is CancelReason.DEPENDENCY
    assert got(storage, go_insert(connection, first, third)).state is JobState.AVAILABLE
    with pytest.raises(psycopg.Error, match="not an existing job"):
        go_insert(connection, second)


@pytest.mark.parametrize("verb", ["cancel", "retry", "delete"])
def test_a_job_that_runs_elsewhere_can_be_taken_by_hand(connection, storage, verb: str) -> None:
    job_id = run_elsewhere(connection)

    assert getattr(storage, verb)(job_id) is Change.TAKEN

    rows = storage.get([job_id])
    connection.execute(GO_FAILURE, ("cancelled", job_id))
    if verb == "delete":
        assert rows == []
    else:
        state = JobState.CANCELLED if verb == "cancel" else JobState.AVAILABLE
        (error,) = rows[0].errors
        assert (rows[0].state, error.attempt) == (state, 1)
        assert error.cause is (Cause.CANCELLED if verb == "cancel" else Cause.LOST)


@pytest.mark.parametrize("end", ["completed", "available", "cancelled"])
def test_what_a_go_worker_says_of_a_cancelled_job_changes_nothing(
    connection, storage, end: str
) -> None:
    job_id = run_elsewhere(connection)
    storage.cancel(job_id)

    if end == "completed":
        with pytest.raises(psycopg.Error, match="it can be made available again"):
            connection.execute(GO_SUCCESS, (job_id,))
    else:
        connection.execute(GO_FAILURE, (end, job_id))

    row = got(storage, job_id)
    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)


def test_what_runs_elsewhere_is_nobodys_to_rescue(connection, storage) -> None:
    job_id = run_elsewhere(connection)

    assert storage.dead_owners() == []
    assert storage.rescue([OWNER, uuid.uuid4()], 10) == []
    assert storage.ask_stack(job_id) is None
    assert storage.running(OWNER) == []
    assert got(storage, job_id).state is JobState.RUNNING


def test_a_go_worker_and_a_supervisor_share_a_table(dsn: str) -> None:
    with (
        supervised(dsn) as client,
        psycopg.connect(dsn, autocommit=True) as go,
    ):
        theirs = go_insert(go, queue="go")
        wait_until(lambda: go_claim(go, "go") == [theirs])
        child = client.insert("after", handlers.Noop(), synk.InsertOptions(depends_on=(theirs,)))
        ours = client.insert("ours", handlers.Noop())
        after = go_insert(go, ours, queue="go")
        assert ended(client, ours).state is JobState.COMPLETED
        go.execute(GO_SUCCESS, (theirs,))
        assert ended(client, child).state is JobState.COMPLETED
        wait_until(lambda: go_claim(go, "go") == [after])
        go.execute(GO_SUCCESS, (after,))

        assert ended(client, after).state is JobState.COMPLETED


def test_a_running_job_that_psql_makes_available_runs_again(dsn: str, tmp_path) -> None:
    """Its supervisor has lost it, and what it says of that attempt is refused."""
    gate = tmp_path / "gate"
    with make_client(dsn) as client:
        job_id = client.insert("x", handlers.Slow(str(gate)))
    with supervised(dsn) as client, psycopg.connect(dsn, autocommit=True) as psql:
        wait_until(lambda: is_running(client, job_id))
        psql.execute("UPDATE synk.job SET state = 'available' WHERE id = %s", (job_id,))
        gate.touch()
        row = ended(client, job_id)

    assert (row.state, row.attempt > 1) == (JobState.COMPLETED, True)
    assert (row.errors[0].attempt, row.errors[0].cause) == (1, Cause.LOST)


def test_psql_may_bring_a_scheduled_job_forward_and_put_one_off(connection, storage) -> None:
    later = job_in(storage, JobState.SCHEDULED)
    now = insert(storage)

    connection.execute("UPDATE synk.job SET state = 'available' WHERE id = %s", (later,))
    connection.execute(
        "UPDATE synk.job SET state = 'scheduled', scheduled_at = now() + '1 h' WHERE id = %s",
        (now,),
    )

    assert [job.id for job in claim(storage)] == [later]
    assert got(storage, now).state is JobState.SCHEDULED


# -- any state to any other -----------------------------------------------------------------------

STATES: Final = (*(state.value for state in JobState), "elsewhere", "waiting", "worn out")
WAYS: Final = ("state", "with a time", "with an error", "as a retry")


def put(connection: psycopg.Connection, storage: PostgresStorage, state: str) -> int:
    if state == "elsewhere":
        return run_elsewhere(connection)
    if state == "waiting":
        return insert(storage, depends_on=(insert(storage, queue="other"),))
    if state == "worn out":
        insert(storage, max_retries=0)
        (job,) = claim(storage)
        fail(storage, job, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)
        return job.id
    return job_in(storage, JobState(state))


def images(connection: psycopg.Connection, storage: PostgresStorage) -> dict[int, Image]:
    claims = {
        id: (owner, seq)
        for id, owner, seq in connection.execute("SELECT id, owner, claim_seq FROM synk.job")
    }
    rows = storage.get(list(claims))
    return {
        row.id: image_of(
            row, claims[row.id][0] and client_id_of(claims[row.id][0]), claims[row.id][1]
        )
        for row in rows
    }


@pytest.mark.parametrize(("was", "becomes"), list(product(STATES, JobState)))
def test_any_change_of_state_by_plain_sql_leaves_a_row_that_keeps_the_rules(
    connection: psycopg.Connection, storage: PostgresStorage, was: str, becomes: JobState
) -> None:
    texts = {
        "state": "",
        "with a time": ", finalized_at = now(), scheduled_at = now()",
        "with an error": ", errors = array_append(errors, jsonb_build_object('attempt', attempt,"
        " 'error', 'boom'))",
        "as a retry": ", attempt = 0, attempted_at = NULL, finalized_at = NULL",
    }
    for way in WAYS:
        connection.execute("DELETE FROM synk.job")
        job_id = put(connection, storage, was)
        history = History()
        before = images(connection, storage)
        row = got(storage, job_id)
        text = f"UPDATE synk.job SET state = %s{texts[way]} WHERE id = %s".encode()
        refusal = raised(
            lambda text=text, job_id=job_id: connection.execute(text, (becomes.value, job_id))
        )
        if refusal is not None:
            assert isinstance(refusal, psycopg.Error)
            # Or it says that a final row has no end, or the reverse, and changes no state.
            told = refusal.sqlstate == "SY003" or row.state is becomes
            assert told, (way, refusal)
            continue
        after = images(connection, storage)
        for each in before:
            history.take(before[each], after[each], on_request=True)
        named = {broken.rule.split()[0] for broken in history.broken} - {"I4"}
        was_running = row.state is JobState.RUNNING
        if way == "with an error" and (not was_running or becomes is JobState.COMPLETED):
            named -= {"I11"}
        assert named == set(), (way, history.broken)
        changed = got(storage, job_id)
        assert changed.attempt >= row.attempt
        if was == "waiting" and not becomes.is_final:
            assert changed.state is JobState.PENDING
        goes_on(storage, changed, after[job_id])


def goes_on(storage: PostgresStorage, row: JobRow, image: Image) -> None:
    """Whatever it is now, it is like any other."""
    if row.state is JobState.RUNNING and image.owner is not None:
        outcome = Outcome(row.id, row.attempt, image.claim_seq or 0)
        assert storage.update_job_state(OWNER, [outcome]) == [AckAnswer.APPLIED]
    elif not row.state.is_final:
        register(storage, OWNER)
        is_taken = row.state is JobState.RUNNING
        assert storage.cancel(row.id) is (Change.TAKEN if is_taken else Change.APPLIED)
    assert got(storage, row.id).state.is_final
