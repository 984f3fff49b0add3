"""The rules of the table itself, which hold for psql, triggers and other producers too."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

import synk
from support.jobs import handlers
from support.supervising import make_client, wait_until
from synk import CancelReason, JobState
from synk.claim import AckAnswer, ClaimedJob, Outcome
from synk.insertion import JobOptions, NewJob
from synk.storage.base import Hints
from synk.storage.cursors import run
from synk.storage.statements import Statements
from synk.testing.making import acknowledge, register, status_of

OWNER = uuid.uuid4()


def insert(connection, *depends_on: int, state: str = "available", name: str = "x") -> int:
    row = connection.execute(
        "INSERT INTO synk.job (queue, kind, args, max_attempts, state, scheduled_at, priority,"
        " name, depends_on) VALUES ('default', 'k', '{}', 7, %s, now(), 3, %s, %s) RETURNING id",
        (state, name, list(depends_on)),
    ).fetchone()
    return row[0]


def state_of(connection, job_id: int) -> str:
    return connection.execute("SELECT state FROM synk.job WHERE id = %s", (job_id,)).fetchone()[0]


def claim(storage, limit: int = 10) -> list:
    register(storage, OWNER)
    return storage.get_job_available("default", limit, kinds=["k"], owner=OWNER, claim_seq=1)


def complete(storage, *jobs) -> list[AckAnswer]:
    outcomes = [Outcome(job.id, job.attempt, job.claim_seq) for job in jobs]
    return storage.update_job_state(OWNER, outcomes)


def test_an_available_row_for_later_is_scheduled(connection) -> None:
    job_id = connection.execute(
        "INSERT INTO synk.job (kind, name, scheduled_at)"
        " VALUES ('k', 'x', now() + interval '1 day') RETURNING id"
    ).fetchone()[0]

    assert state_of(connection, job_id) == "scheduled"


def test_a_scheduled_row_that_is_due_is_available(connection) -> None:
    assert state_of(connection, insert(connection, state="scheduled")) == "available"


@pytest.mark.parametrize("ahead", ["0 s", "0.2 s", "0.9 s"])
def test_a_plain_insert_late_in_its_transaction_or_by_a_clock_ahead_wakes_a_supervisor(
    dsn: str, connection, storage, ahead: str
) -> None:
    def insert_late() -> None:
        with connection.transaction():
            connection.execute("SELECT 1")
            connection.execute(
                "INSERT INTO synk.job (name, kind, state, scheduled_at)"
                " VALUES ('m', 'k', 'available', clock_timestamp() + %s::interval)",
                (ahead,),
            )

    assert notifications(dsn, connection, insert_late) == [('"synk".job', "default")]
    assert len(claim(storage)) == 1


def test_a_job_that_is_asked_for_later_is_not_begun_before(connection) -> None:
    rows = connection.execute(
        "INSERT INTO synk.job (name, kind, state, scheduled_at)"
        " VALUES ('x', 'k', 'scheduled', clock_timestamp() + interval '0.9 s'),"
        " ('x', 'k', 'available', clock_timestamp() + interval '1.5 s') RETURNING state"
    ).fetchall()

    assert rows == [("scheduled",)] * 2


def test_a_job_that_became_due_while_its_transaction_was_open_is_available(connection) -> None:
    with connection.transaction():
        connection.execute("SELECT 1")
        row = connection.execute(
            "INSERT INTO synk.job (name, kind, state, scheduled_at)"
            " VALUES ('x', 'k', 'scheduled', clock_timestamp()) RETURNING state"
        ).fetchone()

    assert row == ("available",)


def test_the_dependencies_of_a_plain_insert_hold(connection, storage) -> None:
    first = insert(connection)
    second = insert(connection, first)
    assert state_of(connection, second) == "pending"

    assert complete(storage, *claim(storage)) == [AckAnswer.APPLIED]

    assert state_of(connection, second) == "available"


def test_a_plain_update_to_completed_lets_dependents_go(connection) -> None:
    first = insert(connection)
    second = insert(connection, first)

    connection.execute(
        "UPDATE synk.job SET state = 'completed', finalized_at = now() WHERE id = %s", (first,)
    )

    assert state_of(connection, second) == "available"


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("(kind, name, depends_on) VALUES ('k', 'x', '{99}')", "not an existing job"),
        ("(kind, name, depends_on) VALUES ('k', 'x', '{NULL}')", "not an existing job"),
        ("(id, kind, name, depends_on) VALUES (50, 'k', 'x', '{50}')", "not an existing job"),
        (
            "(id, kind, name, depends_on) VALUES (50, 'k', 'x', '{51}'), (51, 'k', 'y', '{50}')",
            "not an existing job",
        ),
        (
            "(id, kind, name, depends_on) VALUES (51, 'k', 'x', '{}'), (50, 'k', 'y', '{51}')",
            "not an existing job",
        ),
        ("(kind, name, depends_on) VALUES ('k', 'x', '{}'), ('k', 'y', '{99}')", 'job "y" dep'),
        ("(kind, name) VALUES ('k', repeat('x', 128))", "name_length"),
        ("(kind, name) VALUES ('', 'x')", "kind_length"),
        ("(kind, name, queue) VALUES ('k', 'x', '')", "queue_length"),
        ("(kind, name, priority) VALUES ('k', 'x', 5)", "priority_in_range"),
        ("(kind, name, max_attempts) VALUES ('k', 'x', 0)", "max_attempts_is_positive"),
        ("(kind, name, state) VALUES ('k', 'x', 'running')", "state_is_consistent"),
        ("(kind, name, state) VALUES ('k', 'x', 'completed')", "state_is_consistent"),
        ("(kind, name, meta) VALUES ('k', 'x', '[]')", "meta_is_a_small_object"),
        ("(kind, name, meta) VALUES ('k', 'x', 'null')", "meta_is_a_small_object"),
        (
            "(kind, name, meta) VALUES ('k', 'x', jsonb_build_object('a', repeat('x', 99999)))",
            "meta",
        ),
        ("(kind, name, tags) VALUES ('k', 'x', '{a, NULL}')", "tags_are_few"),
        ("(kind, name, tags) VALUES ('k', 'x', '{{a}, {b}}')", "tags_are_few"),
        ("(kind, name, tags) VALUES ('k', 'x', array_fill('a'::text, '{101}'))", "tags_are_few"),
    ],
)
def test_a_row_that_cannot_be_is_refused(connection, statement: str, problem: str) -> None:
    with pytest.raises(psycopg.Error, match=problem):
        connection.execute(f"INSERT INTO synk.job {statement}".encode())


def test_meta_and_tags_are_the_users_and_kept_in_their_bounds(connection, storage) -> None:
    connection.execute(
        "INSERT INTO synk.job (kind, name, meta, tags) VALUES ('k', 'x', '{\"a\": [1]}', '{b, c}'),"
        " ('k', 'y', '{}', '{}'), ('k', 'z', NULL, NULL)"
    )
    with pytest.raises(psycopg.errors.CheckViolation, match="tags_are_few"):
        connection.execute("UPDATE synk.job SET tags = '{NULL}'")
    complete(storage, *claim(storage))

    rows = connection.execute("SELECT meta, tags FROM synk.job ORDER BY id").fetchall()
    assert rows == [({"a": [1]}, ["b", "c"]), ({}, []), (None, None)]


def test_no_rule_for_others_runs_for_plain_inserts_claims_and_acknowledgements(
    connection: psycopg.Connection,
) -> None:
    statements = Statements()
    outcomes = [Outcome(job_id, 1, 1) for job_id in range(1, 51)]
    plain = statements.ack_plain(OWNER, outcomes[:25])
    assert plain is not None
    jobs = [NewJob(name=f"{n}", kind="k", args="{}", options=JobOptions()) for n in range(50)]
    connection.execute("SET track_functions = 'all'")
    with connection.transaction():
        run(connection, statements.register_client(status_of(OWNER), timedelta(hours=1)))
        assert len(run(connection, statements.insert_many(jobs))) == 50
        claimed = statements.claim("default", 99, kinds=["k"], owner=OWNER, claim_seq=1)
        assert len(run(connection, claimed)) == 50
        assert run(connection, plain) + run(connection, statements.ack(OWNER, outcomes[25:])) == 50

        called = connection.execute(
            "SELECT funcname, calls FROM pg_stat_xact_user_functions WHERE schemaname = 'synk'"
        ).fetchall()

    # Once a statement.
    assert dict(called) == {"job_announce": 1, "job_depends": 1}


def test_dependencies_cannot_be_changed_later(connection) -> None:
    first, second = insert(connection), insert(connection)

    with pytest.raises(psycopg.Error, match="cannot be changed"):
        connection.execute(
            "UPDATE synk.job SET depends_on = ARRAY[%s::bigint] WHERE id = %s", (first, second)
        )


def test_a_producers_open_transaction_does_not_hold_its_dependency_up(
    dsn: str, connection, storage
) -> None:
    insert(connection)
    claimed = claim(storage)
    with psycopg.connect(dsn) as producer:
        second = insert(producer, claimed[0].id)

        assert complete(storage, *claimed) == [AckAnswer.APPLIED]
        producer.commit()

    assert state_of(connection, second) == "available"


def test_a_dependency_that_ends_while_its_dependent_commits_is_not_missed(
    dsn: str, connection, storage
) -> None:
    insert(connection)
    claimed = claim(storage)
    with psycopg.connect(dsn) as producer:
        second = insert(producer, claimed[0].id)
        # What the commit does first: from here on it holds the dependency's row.
        producer.execute("SET CONSTRAINTS ALL IMMEDIATE")

        assert complete(storage, *claimed) == [AckAnswer.LOCKED]
        producer.commit()

    assert complete(storage, *claimed) == [AckAnswer.APPLIED]
    assert state_of(connection, second) == "available"


def test_a_dependency_that_is_cancelled_before_the_commit_cancels(dsn: str, connection) -> None:
    first = insert(connection)
    with psycopg.connect(dsn) as producer:
        second = insert(producer, first)
        with make_client(dsn) as client:
            client.cancel(first)
        producer.commit()

    assert state_of(connection, second) == "cancelled"


def test_a_dependency_that_is_deleted_before_the_commit_cancels(dsn: str, connection) -> None:
    first = insert(connection)
    with psycopg.connect(dsn) as producer:
        second = insert(producer, first)
        connection.execute("DELETE FROM synk.job WHERE id = %s", (first,))
        producer.commit()

    assert state_of(connection, second) == "cancelled"


def test_two_dependencies_that_complete_at_once_let_the_dependent_go(
    dsn: str, connection, storage
) -> None:
    """Whatever the order of their locks, one of the two sees that it is the last."""

    def complete_at_last(job: ClaimedJob) -> None:
        # While the other one has the dependent, it is to be offered again.
        while complete(storage, job) == [AckAnswer.LOCKED]:
            pass

    for _ in range(20):
        parents = [insert(connection), insert(connection)]
        child = insert(connection, *parents)
        jobs = claim(storage, 2)
        threads = [threading.Thread(target=complete_at_last, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert state_of(connection, child) == "available"
        connection.execute("DELETE FROM synk.job WHERE id = %s", (child,))


@pytest.mark.parametrize("end", [JobState.COMPLETED, JobState.CANCELLED])
def test_dependents_that_are_inserted_while_their_dependencies_end_all_follow(
    dsn: str, connection, storage, end: JobState
) -> None:
    """Two producers and two that acknowledge, on connections of their own, on the same rows."""
    parents = [insert(connection) for _ in range(40)]
    jobs = claim(storage, len(parents))
    reason = CancelReason.FAILED if end is JobState.CANCELLED else None
    start = threading.Barrier(4, timeout=20)

    def produce(order: int) -> None:
        with psycopg.connect(dsn, autocommit=True) as producer:
            start.wait()
            for parent in parents[::order]:
                producer.execute(
                    "INSERT INTO synk.job (kind, name, depends_on)"
                    " SELECT 'k', 'x', ARRAY[%s::bigint] FROM generate_series(1, 25)",
                    (parent,),
                )

    def acknowledge_all(part: list[ClaimedJob]) -> None:
        start.wait()
        for job in part:
            outcome = Outcome(job.id, job.attempt, job.claim_seq, end, cancel_reason=reason)
            while storage.update_job_state(OWNER, [outcome]) == [AckAnswer.LOCKED]:
                pass

    threads = [threading.Thread(target=produce, args=(order,)) for order in (1, -1)]
    threads += [threading.Thread(target=acknowledge_all, args=(jobs[n::2],)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    followed = JobState.AVAILABLE if end is JobState.COMPLETED else JobState.CANCELLED
    expected = {end: 40}
    expected[followed] = expected.get(followed, 0) + 2 * 40 * 25
    assert storage.counts() == expected


def test_a_long_chain_is_cancelled_as_a_whole(connection, storage) -> None:
    connection.execute(
        "INSERT INTO synk.job (id, kind, name, depends_on)"
        " SELECT n, 'k', 'x', CASE WHEN n > 1 THEN ARRAY[n - 1] ELSE '{}' END"
        " FROM generate_series(1::bigint, 3000) AS n"
    )

    storage.cancel(1)

    assert storage.counts() == {JobState.CANCELLED: 3000}


def test_a_row_that_somebody_has_locked_holds_only_itself_up(dsn: str, connection, storage) -> None:
    for _ in range(3):
        insert(connection)
    jobs = claim(storage)
    with psycopg.connect(dsn) as other:
        other.execute("SELECT FROM synk.job WHERE id = %s FOR UPDATE", (jobs[1].id,))

        answers = complete(storage, *jobs)

    assert answers[1] is AckAnswer.LOCKED
    assert storage.counts() == {JobState.COMPLETED: 2, JobState.RUNNING: 1}
    assert complete(storage, jobs[1]) == [AckAnswer.APPLIED]


def notifications(
    dsn: str, connection, *statements: str | Callable[[], object]
) -> list[tuple[str, str]]:
    with psycopg.connect(dsn, autocommit=True) as listener:
        listener.execute('LISTEN """synk"".job"')
        for statement in statements:
            if isinstance(statement, str):
                connection.execute(statement.encode())
            else:
                statement()
        connection.execute("SELECT pg_notify('\"synk\".job', 'end')")
        heard: list[tuple[str, str]] = []
        for hint in listener.notifies(timeout=10):
            if hint.payload == "end":
                break
            heard.append((hint.channel, hint.payload))
        return heard


def test_jobs_of_one_insert_are_each_settled_by_what_they_depend_on(connection, storage) -> None:
    completed, cancelled, running, cleaned = (insert(connection) for _ in range(4))
    storage.cancel(cancelled)
    complete(storage, *(job for job in claim(storage) if job.id != running))
    connection.execute("DELETE FROM synk.job WHERE id = %s", (cleaned,))
    wanted = {
        (completed,): ("available", []),
        (cleaned,): ("available", []),
        (running,): ("pending", [running]),
        (cancelled,): ("cancelled", []),
        (completed, cleaned): ("available", []),
        (completed, running, cleaned): ("pending", [running]),
        (completed, cancelled, running): ("cancelled", []),
        (running, running): ("pending", [running, running]),
    }

    rows = connection.execute(
        "INSERT INTO synk.job (kind, name, depends_on)"
        " SELECT 'k', 'x', d::bigint[] FROM unnest(%s::text[]) AS d RETURNING id",
        ([str(list(ids)).replace("[", "{").replace("]", "}") for ids in wanted],),
    ).fetchall()

    jobs = storage.get([job_id for (job_id,) in rows])
    assert {tuple(job.depends_on): (job.state.value, job.waiting_on) for job in jobs} == wanted


def test_within_an_insert_jobs_depend_on_lower_ids_in_any_order(connection) -> None:
    connection.execute(
        "INSERT INTO synk.job (id, kind, name, depends_on)"
        " VALUES (51, 'k', 'y', '{50}'), (50, 'k', 'x', '{}')"
    )
    connection.execute(
        "INSERT INTO synk.job (id, kind, name, depends_on) VALUES (7, 'k', 'z', '{51}')"
    )

    assert [state_of(connection, job_id) for job_id in (50, 51, 7)] == [
        "available",
        "pending",
        "pending",
    ]


def test_what_a_transaction_noted_for_its_commit_does_not_stay(dsn: str, connection) -> None:
    first = insert(connection)
    with psycopg.connect(dsn) as producer:
        with producer.transaction():
            insert(producer, first)
        with producer.transaction(force_rollback=True):
            insert(producer, first)

    assert connection.execute("SELECT count(*) FROM synk.settling").fetchone() == (0,)
    assert counts_of(connection) == {"available": 1, "pending": 1}


def counts_of(connection) -> dict[str, int]:
    return dict(
        connection.execute("SELECT state, count(*) FROM synk.job GROUP BY state").fetchall()
    )


def test_a_thousand_rows_are_announced_once_a_queue(dsn: str, connection) -> None:
    heard = notifications(
        dsn,
        connection,
        "INSERT INTO synk.job (kind, name, queue)"
        " SELECT 'k', 'x', 'q' || n % 2 FROM generate_series(1, 1000) AS n",
    )

    assert sorted(heard) == [('"synk".job', "q0"), ('"synk".job', "q1")]


def test_d4_a_transaction_of_many_inserts_is_announced_once_a_queue(dsn: str, connection) -> None:
    insert = "INSERT INTO synk.job (kind, name, queue) VALUES ('k', 'x', 'q');"

    heard = notifications(dsn, connection, insert * 300)

    assert heard == [('"synk".job', "q")]


def test_d4_claims_and_acknowledgements_announce_nothing(dsn: str, connection, storage) -> None:
    """Whoever announces something takes a lock at its commit that the whole server has once."""
    for _ in range(4):
        insert(connection)

    def work() -> None:
        done, failed, again, _ = claim(storage)
        acknowledge(storage, done, owner=OWNER)
        acknowledge(
            storage,
            failed,
            owner=OWNER,
            state=JobState.CANCELLED,
            cancel_reason=CancelReason.FAILED,
        )
        acknowledge(storage, again, owner=OWNER, state=JobState.AVAILABLE, uncharged=True)
        assert len(storage.rescue([OWNER], 10)) == 1

    assert notifications(dsn, connection, work) == []


def test_what_is_not_available_is_not_announced(dsn: str, connection) -> None:
    heard = notifications(
        dsn,
        connection,
        "INSERT INTO synk.job (kind, name, state) VALUES ('k', 'x', 'pending')",
        "INSERT INTO synk.job (kind, name, scheduled_at) VALUES ('k', 'x', now() + '1 h')",
    )

    assert heard == []


@pytest.mark.parametrize("schema", ["jobs_2", "user"])
def test_x3_the_schema_may_have_another_name(dsn: str, schema: str) -> None:
    storage = synk.PostgresStorage(dsn, schema=schema)
    storage.migrate()
    with synk.Client(storage=storage) as client:
        first = client.insert("x", handlers.Noop())
        client.insert("y", handlers.Noop(), synk.InsertOptions(depends_on=(first,)))
        register(storage, OWNER)
        jobs = storage.get_job_available("default", 5, kinds=["noop"], owner=OWNER, claim_seq=1)
        complete(storage, *jobs)
        assert storage.counts() == {JobState.COMPLETED: 1, JobState.AVAILABLE: 1}

    with make_client(dsn) as usual:
        assert usual.storage.counts() == {}


@pytest.mark.parametrize("schema", ["", "Jobs", "a b", "1a", "x" * 51, "Robert'); --", None])
def test_x3_a_schema_that_is_no_identifier_is_refused(schema) -> None:
    with pytest.raises(synk.ConfigurationError, match="schema="):
        synk.PostgresStorage("postgresql://localhost/x", schema=schema)


def test_a_record_of_the_go_original_is_read(connection, storage) -> None:
    job_id = insert(connection)
    record = {"at": "2026-01-01T00:00:00Z", "attempt": 1, "error": "boom", "trace": "goroutine 1"}

    connection.execute(
        "UPDATE synk.job SET errors = errors || %s::jsonb WHERE id = %s", (Jsonb(record), job_id)
    )

    (error,) = storage.get([job_id])[0].errors
    assert (error.error, error.trace, error.cause) == ("boom", "goroutine 1", synk.Cause.EXCEPTION)


def test_a_supervisor_hears_of_a_job_that_psql_inserted(dsn: str, connection, storage) -> None:
    with storage.announcements(OWNER) as announcements:
        insert(connection)

        heard = wait_until(lambda: announcements.wait(1.0))
        began = time.monotonic()

        assert heard == Hints(frozenset({"default"}))
        assert not announcements.wait(0.05)
        assert time.monotonic() - began < 5


def test_a_supervisor_hears_of_requests_to_itself_alone(connection, storage) -> None:
    job_id = insert(connection)
    claim(storage)
    with (
        storage.announcements(OWNER) as own,
        storage.announcements(uuid.uuid4()) as others,
    ):
        storage.cancel(job_id)
        heard = wait_until(lambda: own.wait(1.0))
        insert(connection)

        assert heard == Hints(requests=True)
        assert wait_until(lambda: others.wait(1.0)) == Hints(frozenset({"default"}))


def test_what_a_plain_success_leaves_is_at_most_400_bytes(connection: psycopg.Connection) -> None:
    """In the long run: the room of dead versions, and on pages that are not full, is in it."""
    statements = Statements()
    jobs = [NewJob(name="noop", kind="k", args='{"n": 1}', options=JobOptions())] * 1000
    run(connection, statements.register_client(status_of(OWNER), timedelta(hours=1)))
    for claim_seq in range(1, 11):
        run(connection, statements.insert_many(jobs))
        claims = statements.claim("default", 1000, kinds=["k"], owner=OWNER, claim_seq=claim_seq)
        outcomes = [
            Outcome(job.id, 1, claim_seq, duration_us=5, cpu_us=5, peak_rss_bytes=1, pid=1)
            for job in run(connection, claims)
        ]
        plain = statements.ack_plain(OWNER, outcomes)
        assert plain is not None
        assert run(connection, plain) == 1000
        connection.execute("VACUUM synk.job")

    row = connection.execute(
        "SELECT pg_relation_size('synk.job') / count(*) FROM synk.job"
    ).fetchone()
    assert row is not None
    assert row[0] <= 400
