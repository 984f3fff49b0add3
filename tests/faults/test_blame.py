"""D28: a server that is at a limit, or out of order, is not taken for a bad value."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest

import synk
from support import servers
from support.acknowledging import acknowledging
from support.jobs import handlers
from support.supervising import wait_until
from synk import JobState, telemetry
from synk.storage.postgres import PostgresStorage
from synk.testing.making import claim, get, insert, outcome_of


@pytest.fixture(scope="module")
def small_queue() -> Iterator[str]:
    """A database on a server that has room for few notifications."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(servers.SETTINGS, "max_notify_queue_pages", "64")
        with servers.embedded_server() as server, server.database() as dsn:
            yield dsn


def fill(dsn: str) -> None:
    with (
        psycopg.connect(dsn, autocommit=True) as connection,
        contextlib.suppress(psycopg.errors.ProgramLimitExceeded),
    ):
        while True:
            connection.execute(
                "SELECT count(pg_notify('x', n::text)) FROM generate_series(1, 9999) n"
            )


def test_d28_with_the_notification_queue_full_everything_is_kept_and_tried_again(
    small_queue: str,
) -> None:
    storage = PostgresStorage(small_queue)
    first = insert(storage)
    behind = insert(storage, depends_on=(first,))
    (job,) = claim(storage, 10)
    with psycopg.connect(small_queue) as idle, synk.Client(storage=storage) as client:
        idle.execute("LISTEN x")
        idle.commit()
        idle.execute("SELECT 1")
        fill(small_queue)
        with pytest.raises(synk.StorageUnavailable, match="pg_notification_queue_usage"):
            client.insert("x", handlers.Noop())
        with acknowledging(storage, [outcome_of(job, result='"precious"')]) as (acks, facts):
            facts.wait_for(telemetry.StorageFailing, loop="acknowledging")
            kept = acks.unacknowledged
            idle.close()
            with psycopg.connect(small_queue) as admin:
                admin.execute("SELECT pg_notification_queue_usage()")
            wait_until(lambda: not acks.unacknowledged, what="it to be stored")
        client.insert("x", handlers.Noop())
        row = get(storage, first)
        then = get(storage, behind).state

    assert kept == 1
    assert (row.state, row.result) == (JobState.COMPLETED, "precious")
    assert then is JobState.AVAILABLE
    assert facts.of(telemetry.OutcomeReduced) == []
    assert "a session listens in a transaction" in facts.text()


def test_d28_a_sequence_behind_its_table_is_no_bad_value(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    client = synk.Client(storage=storage)
    client.insert_many([("x", handlers.Noop())] * 3)
    connection.execute("SELECT setval(pg_get_serial_sequence('synk.job', 'id'), 1)")

    with pytest.raises(synk.StorageUnavailable, match=r"SELECT setval\(.*FROM synk.job") as caught:
        client.insert("x", handlers.Noop())

    connection.execute(str(caught.value)[str(caught.value).index("SELECT setval") :].encode())
    assert client.insert("x", handlers.Noop()) == 4


TRIGGER = """
CREATE FUNCTION wrong() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN {body}; RETURN NEW; END $$;
CREATE TRIGGER wrong BEFORE {when} ON synk.job FOR EACH ROW
    WHEN ({condition}) EXECUTE FUNCTION wrong();
"""
BODIES = {
    "divides_by_zero": "PERFORM 1 / 0",
    "casts": "PERFORM 'x'::integer",
    "raises_a_data_exception": "RAISE 'no' USING ERRCODE = '22023'",
    "raises_a_check": "RAISE 'no' USING ERRCODE = '23514'",
    "breaks_anothers_rule": "INSERT INTO audit VALUES (NULL)",
    "raises": "RAISE 'no'",
    "is_at_a_limit": "RAISE 'no' USING ERRCODE = '54000'",
    "has_a_broken_index": "RAISE 'no' USING ERRCODE = 'XX002'",
}


@pytest.fixture
def audit(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    connection.execute("CREATE TABLE audit (id int NOT NULL); GRANT ALL ON audit TO public")
    try:
        yield connection
    finally:
        connection.execute("DROP FUNCTION IF EXISTS wrong CASCADE; DROP TABLE audit")


@pytest.mark.parametrize("body", BODIES)
def test_d28_what_a_trigger_of_the_owner_raises_takes_nothing_from_an_outcome(
    storage: PostgresStorage, audit: psycopg.Connection, body: str
) -> None:
    insert(storage)
    (job,) = claim(storage, 1)
    audit.execute(
        TRIGGER.format(
            body=BODIES[body].replace("audit", "public.audit"),
            when="UPDATE",
            condition="NEW.state = 'completed' AND NEW.result IS NOT NULL",
        ).encode()
    )
    with acknowledging(storage, [outcome_of(job, result='"precious"')]) as (acks, facts):
        facts.wait_for(telemetry.StorageFailing)
        assert acks.unacknowledged == 1
        audit.execute("DROP TRIGGER wrong ON synk.job")
        wait_until(lambda: not acks.unacknowledged, what="it to be stored")

    assert get(storage, job.id).result == "precious"
    assert facts.of(telemetry.OutcomeReduced) == []


@pytest.mark.parametrize("body", BODIES)
def test_d28_what_a_trigger_of_the_owner_raises_is_no_bad_job(
    storage: PostgresStorage, audit: psycopg.Connection, body: str
) -> None:
    audit.execute(
        TRIGGER.format(
            body=BODIES[body].replace("audit", "public.audit"), when="INSERT", condition="true"
        ).encode()
    )

    with pytest.raises(synk.StorageError):
        synk.Client(storage=storage).insert("x", handlers.Noop())


RULES = {
    "a_check": """
        ALTER TABLE synk.job ADD CONSTRAINT wrong CHECK (
            1 / (strpos({column}::text, 'precious') = 0)::int > 0)""",
    "a_check_by_a_function": """
        CREATE FUNCTION wrong(text) RETURNS int IMMUTABLE LANGUAGE sql SET work_mem = '1MB' AS
            $$ SELECT 1 / (strpos($1, 'precious') = 0)::int $$;
        ALTER TABLE synk.job ADD CONSTRAINT wrong CHECK (wrong({column}::text) > 0)""",
    "an_index": """
        CREATE INDEX wrong ON synk.job ((1 / (strpos({column}::text, 'precious') = 0)::int))""",
    "a_column": """
        ALTER TABLE synk.job ADD wrong int GENERATED ALWAYS AS (
            1 / ({column}::text <> '"precious"')::int) STORED""",
}
"""What an owner may do to the table without a trigger."""

UNDO = """
DROP INDEX IF EXISTS synk.wrong;
ALTER TABLE synk.job DROP CONSTRAINT IF EXISTS wrong, DROP COLUMN IF EXISTS wrong;
"""


@pytest.fixture
def own(server: servers.Server) -> Iterator[tuple[PostgresStorage, psycopg.Connection]]:
    """A database of the test's own, which may be spoilt."""
    with server.database() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        storage = PostgresStorage(dsn)
        yield storage, connection
        storage.close()


@pytest.mark.parametrize("rule", RULES)
def test_d28_what_the_owner_computes_of_a_result_takes_nothing_from_it(
    own: tuple[PostgresStorage, psycopg.Connection], rule: str
) -> None:
    storage, admin = own
    ids = [insert(storage) for _ in range(3)]
    jobs = claim(storage, 3)
    admin.execute(RULES[rule].format(column="result").encode())
    outcomes = [
        outcome_of(jobs[0], result="5"),
        outcome_of(jobs[1], result='"precious"'),
        outcome_of(jobs[2], output="a\0b"),
    ]
    with acknowledging(storage, outcomes) as (acks, facts):
        facts.wait_for(telemetry.StorageFailing)
        wait_until(lambda: acks.unacknowledged == 1, what="the others to be stored")
        admin.execute(UNDO.encode())
        wait_until(lambda: not acks.unacknowledged, what="it to be stored")

    assert [get(storage, job_id).state for job_id in ids] == [JobState.COMPLETED] * 3
    assert get(storage, jobs[1].id).result == "precious"
    # What is a value's own fault is told apart, also where others' functions refuse.
    assert [fact.job_id for fact in facts.of(telemetry.OutcomeReduced)] == [jobs[2].id]


def test_d28_a_function_in_another_language_is_the_owners_in_any_of_the_servers(
    own: tuple[PostgresStorage, psycopg.Connection],
) -> None:
    storage, admin = own
    admin.execute(RULES["a_check_by_a_function"].format(column="name").encode())

    with pytest.raises(synk.StorageError, match="division by zero"):
        synk.Client(storage=storage).insert("precious", handlers.Noop())


def test_d28_an_answer_that_nobody_can_read_is_no_bad_value(
    own: tuple[PostgresStorage, psycopg.Connection],
) -> None:
    storage, admin = own
    job_id = insert(storage)
    admin.execute("ALTER TYPE synk.job_state ADD VALUE 'paused'")
    admin.execute("ALTER TABLE synk.job DISABLE TRIGGER USER")
    admin.execute("UPDATE synk.job SET state = 'paused'")

    with pytest.raises(synk.StorageError, match=r"cannot read what database .* 'paused'") as caught:
        storage.get([job_id])

    assert type(caught.value) is synk.StorageError
    assert insert(storage) == job_id + 1


def test_d28_a_rule_of_the_owners_for_the_jobs_themselves_is_the_callers_matter(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    connection.execute("ALTER TABLE synk.job ADD CONSTRAINT no_x CHECK (name <> 'x')")
    try:
        with pytest.raises(synk.InvalidJob, match="no_x"):
            synk.Client(storage=storage).insert("x", handlers.Noop())
    finally:
        connection.execute("ALTER TABLE synk.job DROP CONSTRAINT no_x")
