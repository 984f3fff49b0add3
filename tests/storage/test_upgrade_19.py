"""A database with the last schema before the first one: it becomes that, with all its rows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

import psycopg
import pytest

import synk
from support.catalogs import catalog, owners
from support.jobs import handlers
from support.needs import run_in_psql
from support.servers import MIGRATIONS
from support.supervising import ended, supervised
from synk import CancelReason, JobState
from synk.storage import script

MADE: Final = Path(__file__).with_name("version_19.sql")

# As the statements and the triggers of that version left them. Job 1 completed and was removed.
ROWS: Final = """
INSERT INTO synk.client (id, host, pid, version, processes, queues, dead_at) VALUES
    ('00000000-0000-0000-0000-000000000001', 'h', 1, '0', 2, '{default}', now());
INSERT INTO synk.job (name, kind, args, state) VALUES ('gone', 'noop', '{}', 'available');
UPDATE synk.job SET state = 'completed';
DELETE FROM synk.job;
INSERT INTO synk.job (id, name, kind, args, state, depends_on, idempotency_key, scheduled_at)
VALUES
    (21, 'done', 'noop', '{}', 'available', '{}', NULL, now()),
    (22, 'parent', 'noop', '{"n": 0}', 'available', '{}', 'key', now()),
    (23, 'later', 'noop', '{}', 'available', '{}', NULL, now() + interval '1 h'),
    (24, 'behind two', 'noop', '{}', 'available', '{22, 23}', NULL, now()),
    (25, 'behind', 'noop', '{}', 'available', '{24}', NULL, now()),
    (26, 'held', 'noop', '{}', 'pending', '{}', NULL, now()),
    (27, 'lost', 'noop', '{}', 'available', '{}', NULL, now()),
    (28, 'unwanted', 'noop', '{}', 'available', '{}', NULL, now()),
    (29, 'free', 'noop', '{}', 'available', '{1}', NULL, now()),
    (30, 'failed', 'noop', '{}', 'available', '{}', NULL, now());
UPDATE synk.job SET state = 'running', attempt = 1, attempted_at = now(), claim_seq = 1,
    owner = '00000000-0000-0000-0000-000000000001' WHERE id IN (21, 27, 30);
UPDATE synk.job SET state = 'completed', finalized_at = now(), owner = NULL, claim_seq = NULL,
    acked_by = owner, acked_attempt = 1, duration_us = 5, result = '7' WHERE id = 21;
UPDATE synk.job SET state = 'cancelled', cancel_reason = 'failed', finalized_at = now(),
    owner = NULL, claim_seq = NULL,
    errors = ARRAY['{"attempt": 1, "error": "no", "cause": "exception"}'::jsonb] WHERE id = 30;
SELECT synk.cancel(28);
SELECT setval(pg_get_serial_sequence('synk.job', 'id'), 30);
"""


@pytest.fixture
def old(empty_dsn: str) -> str:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(MADE.read_bytes())
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(ROWS.encode())
    return empty_dsn


def states(dsn: str) -> dict[int, str]:
    with psycopg.connect(dsn) as connection:
        return dict(connection.execute("SELECT id, state::text FROM synk.job").fetchall())


def test_migrate_makes_the_first_schema_of_it_and_keeps_its_rows(old: str, dsn: str) -> None:
    storage = synk.PostgresStorage(old)
    with pytest.raises(synk.SchemaMismatch, match="run `synk migrate`"):
        storage.ping()
    before = states(old)

    assert storage.migrate(tell=pytest.fail) == ["upgrade_19", *MIGRATIONS[4:]]
    assert storage.migrate(tell=pytest.fail) == []

    assert catalog(old) == catalog(dsn)
    assert owners(old) == owners(dsn)
    assert states(old) == before
    assert set(before.values()) == {state.value for state in JobState}
    rows = {row.id: row for row in storage.get(list(before))}
    storage.close()
    assert (rows[21].result, rows[21].duration) == (7, timedelta(microseconds=5))
    assert (rows[24].waiting_on, rows[25].waiting_on) == ([22, 23], [24])
    reasons = (rows[28].cancel_reason, rows[30].cancel_reason)
    assert reasons == (CancelReason.REQUESTED, CancelReason.FAILED)


def test_what_it_held_runs_and_ids_go_on(old: str) -> None:
    synk.PostgresStorage(old).migrate(tell=pytest.fail)

    with supervised(old, processes=1) as client:
        client.retry(23)
        client.ready(26)
        rows = [ended(client, job_id) for job_id in (22, 23, 24, 25, 26, 27, 29)]
        keyed = synk.InsertOptions(idempotency_key="key")
        assert client.insert("again", handlers.Noop(), keyed) == 22
        after_one_that_is_gone = synk.InsertOptions(depends_on=(1,))
        rows.append(ended(client, client.insert("new", handlers.Noop(), after_one_that_is_gone)))

    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert rows[-1].id > 30
    assert (rows[5].attempt, rows[5].errors[0].cause) == (2, "lost")


def test_it_is_left_as_it_was_while_a_supervisor_of_before_runs(old: str) -> None:
    with psycopg.connect(old, autocommit=True) as connection:
        connection.execute(
            "UPDATE synk.client SET dead_at = NULL, lease_until = now() + interval '1 h'"
        )
    before = catalog(old)

    with pytest.raises(synk.StorageError, match="stop them"):
        synk.PostgresStorage(old).migrate()

    assert catalog(old) == before


def test_an_older_one_is_not_taken_for_it(old: str) -> None:
    with psycopg.connect(old, autocommit=True) as connection:
        connection.execute("DELETE FROM synk.migration WHERE version = 19")

    with pytest.raises(synk.SchemaMismatch, match="at version 18 of before the first schema"):
        synk.PostgresStorage(old).migrate()


def test_the_script_makes_the_first_schema_of_it(old: str, dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "synk.sql"
    path.write_text(script.script())

    done = run_in_psql(path, old)

    assert (done.returncode, done.stderr) == (0, "")
    assert catalog(old) == catalog(dsn)
    assert owners(old) == owners(dsn)
    with psycopg.connect(old) as connection:
        noted = connection.execute("SELECT version, name FROM synk.migration ORDER BY 1").fetchall()
    assert [f"{number:03} {name}" for number, name in noted[1:]] == MIGRATIONS
