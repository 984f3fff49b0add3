"""A database whose schema the Go package made: its table becomes synk's, with all that is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import pytest

import synk
from support.catalogs import catalog
from support.jobs import handlers
from support.servers import MIGRATIONS
from support.supervising import ended, supervised
from synk import CancelReason, JobState

# As the package's own example makes it.
GO: Final = """
CREATE SCHEMA IF NOT EXISTS synk;
SET search_path TO synk;
CREATE TYPE job_state AS ENUM
    ('available', 'cancelled', 'completed', 'running', 'scheduled', 'pending');
CREATE TABLE job (
    id bigserial PRIMARY KEY,
    name text NOT NULL,
    state job_state NOT NULL DEFAULT 'available'::job_state,
    attempt smallint NOT NULL DEFAULT 0,
    max_attempts smallint NOT NULL,
    attempted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    finalized_at timestamptz,
    scheduled_at timestamptz NOT NULL DEFAULT now(),
    depends_on bigint[] DEFAULT '{}',
    priority smallint NOT NULL DEFAULT 3,
    args jsonb,
    attempted_by text[],
    errors jsonb[] NOT NULL DEFAULT '{}'::jsonb[],
    kind text NOT NULL,
    queue text NOT NULL DEFAULT 'default'::text,
    CONSTRAINT finalized_or_finalized_at_null CHECK (
        (state IN ('cancelled', 'completed') AND finalized_at IS NOT NULL)
        OR finalized_at IS NULL),
    CONSTRAINT max_attempts_is_positive CHECK (max_attempts > 0),
    CONSTRAINT priority_in_range CHECK (priority >= 1 AND priority <= 4),
    CONSTRAINT queue_length CHECK (char_length(queue) > 0 AND char_length(queue) < 128),
    CONSTRAINT kind_length CHECK (char_length(kind) > 0 AND char_length(kind) < 128),
    CONSTRAINT no_self_dependency CHECK (NOT (id = ANY (depends_on))),
    CONSTRAINT name_length CHECK (char_length(name) > 0 AND char_length(name) < 128)
);
CREATE INDEX job_kind ON job USING btree (kind);
CREATE INDEX job_state_and_finalized_at_index ON job USING btree (state, finalized_at)
    WHERE finalized_at IS NOT NULL;
CREATE INDEX job_prioritized_fetching_index ON job
    USING btree (state, queue, priority, scheduled_at, id);
CREATE INDEX job_args_index ON job USING gin (args);
CREATE INDEX job_depends_on_idx ON job USING gin (depends_on);
CREATE INDEX job_reverse_deps_idx ON job USING gin (depends_on)
    WHERE array_length(depends_on, 1) > 0;
"""

E: Final = (
    """'{"at": "2026-01-25T11:42:15.123456789-03:00", "attempt": 1, "error": "no disk","""
    """ "trace": "goroutine 7 [running]:", "extra": 1}'::jsonb"""
)

ROWS: Final = f"""
INSERT INTO job (id, state, attempt, max_attempts, attempted_at, finalized_at, scheduled_at,
                 depends_on, attempted_by, errors, name, kind, args) VALUES
(1, 'completed', 1, 7, now(), now(), now(), '{{}}', '{{GO}}', '{{}}', 'done', 'noop', NULL),
(2, 'available', 0, 7, NULL, NULL, now(), NULL, NULL, '{{}}', 'due', 'noop', '{{}}'),
(3, 'available', 1, 7, now(), NULL, now(), '{{}}', '{{GO}}', ARRAY[{E}], 'again', 'noop', '{{}}'),
(4, 'scheduled', 0, 7, NULL, NULL, now() + '1 h', '{{}}', NULL, '{{}}', 'later', 'noop', '{{}}'),
(5, 'scheduled', 0, 7, NULL, NULL, now() + '-1 h', '{{}}', NULL, '{{}}', 'past', 'noop', '{{}}'),
(6, 'pending', 0, 7, NULL, NULL, now(), '{{}}', NULL, '{{}}', 'held', 'noop', '{{}}'),
(7, 'running', 2, 2, now(), NULL, now(), '{{}}', '{{GO,GO}}', ARRAY[{E}], 'ran', 'noop', '{{}}'),
(8, 'cancelled', 2, 2, now(), NULL, now(), '{{}}', '{{GO,GO}}', ARRAY[{E}], 'over', 'noop', '{{}}'),
(9, 'cancelled', 0, 7, NULL, now(), now(), '{{}}', NULL, '{{}}', 'unwanted', 'noop', '{{}}'),
(10, 'available', 0, 7, NULL, NULL, now(), '{{1}}', NULL, '{{}}', 'free', 'noop', '{{}}'),
(11, 'available', 0, 7, NULL, NULL, now(), '{{1,2}}', NULL, '{{}}', 'behind', 'noop', '{{}}'),
(12, 'available', 0, 7, NULL, NULL, now(), '{{9}}', NULL, '{{}}', 'doomed', 'noop', '{{}}'),
(13, 'available', 0, 7, NULL, NULL, now(), '{{12}}', NULL, '{{}}', 'doomed too', 'noop', '{{}}'),
(14, 'available', 0, 7, NULL, NULL, now(), '{{999}}', NULL, '{{}}', 'of one gone', 'noop', '{{}}');
SELECT setval('job_id_seq', 40);
"""


@pytest.fixture
def go(empty_dsn: str) -> str:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute((GO + ROWS).encode())
    return empty_dsn


@contextmanager
def storage_on(dsn: str) -> Iterator[synk.PostgresStorage]:
    storage = synk.PostgresStorage(dsn)
    yield storage
    storage.close()


def test_d27_a_go_table_is_adopted_with_rows_of_every_state(go: str, dsn: str) -> None:
    told: list[str] = []
    with storage_on(go) as storage:
        assert storage.migrate(tell=told.append) == MIGRATIONS
        assert storage.migrate(tell=pytest.fail) == []
        rows = {row.id: row for row in storage.get(list(range(1, 15)))}

    assert catalog(go) == catalog(dsn)
    assert {row.id: str(row.state) for row in rows.values()} == {
        1: "completed",
        2: "available",
        3: "available",
        4: "scheduled",
        5: "available",
        6: "pending",
        7: "available",
        8: "cancelled",
        9: "cancelled",
        10: "available",
        11: "pending",
        12: "cancelled",
        13: "cancelled",
        14: "pending",
    }
    reasons = [rows[job_id].cancel_reason for job_id in (8, 9, 12, 13)]
    assert reasons == [
        *(CancelReason.FAILED, CancelReason.REQUESTED),
        *(CancelReason.DEPENDENCY, CancelReason.DEPENDENCY),
    ]
    assert (rows[7].attempt, rows[7].uncounted, rows[7].attempted_by) == (2, 1, ["GO", "GO"])
    assert rows[11].waiting_on == [2]
    (error,) = rows[3].errors
    assert (error.attempt, error.error, error.trace) == (1, "no disk", "goroutine 7 [running]:")
    assert str(error.at) == "2026-01-25 11:42:15.123456-03:00"
    with psycopg.connect(go) as connection:
        kept = connection.execute("SELECT errors[1] ->> 'extra' FROM synk.job WHERE id = 3")
        assert kept.fetchone() == ("1",)
    assert any("`synk ready`" in line for line in told)


def test_what_was_adopted_runs_and_ids_go_on(go: str) -> None:
    with storage_on(go) as storage:
        storage.migrate(tell=lambda _: None)

    with supervised(go, processes=1) as client:
        due = [ended(client, job_id) for job_id in (2, 3, 5, 7, 10, 11)]
        client.ready(14)
        due += [ended(client, 14), ended(client, client.insert("new", handlers.Noop()))]

    assert {row.state for row in due} == {JobState.COMPLETED}
    assert due[-1].id == 41
    assert due[3].attempt == 3


def test_rights_views_and_keys_of_others_stay(go: str) -> None:
    with psycopg.connect(go, autocommit=True) as connection:
        connection.execute(
            "CREATE VIEW public.names AS SELECT id, name FROM synk.job;"
            "CREATE TABLE public.invoice (job bigint REFERENCES synk.job);"
            "INSERT INTO public.invoice VALUES (2);"
            "GRANT INSERT ON synk.job TO pg_monitor"
        )
        with storage_on(go) as storage:
            storage.migrate(tell=lambda _: None)
        may = connection.execute("SELECT has_table_privilege('pg_monitor', 'synk.job', 'INSERT')")
        assert may.fetchone() == (True,)
        names = connection.execute("SELECT count(*) FROM public.names").fetchone()

    assert names == (14,)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE job SET scheduled_at = 'infinity' WHERE id = 4", "job 4 has scheduled_at"),
        ("ALTER TABLE job ADD COLUMN tenant int", "table job, type job_state"),
        ("ALTER TYPE job_state ADD VALUE 'discarded'", "table job, type job_state"),
        ("ALTER TABLE job DROP COLUMN errors", "table job, type job_state"),
        ("DROP TABLE job", "type job_state"),
        ("CREATE TABLE client (id int)", "has table client"),
        ("CREATE VIEW seen AS SELECT attempt FROM job", "view"),
    ],
)
def test_what_cannot_be_adopted_is_refused_and_left_as_it_was(
    go: str, change: str, problem: str
) -> None:
    with psycopg.connect(go, autocommit=True) as connection:
        connection.execute(f"SET search_path TO synk; {change}".encode())
    before = catalog_of_go(go)

    with storage_on(go) as storage, pytest.raises(synk.SynkError, match=problem):
        storage.migrate()

    assert catalog_of_go(go) == before


def catalog_of_go(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT c.relname, a.attname, a.atttypid::regtype::text FROM pg_class AS c"
            " JOIN pg_attribute AS a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = 'synk'::regnamespace ORDER BY 1, 2"
        ).fetchall()
