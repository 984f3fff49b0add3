"""A database of any version of before the first schema: it becomes that, with all its rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import psycopg
import pytest

import synk
from support import former
from support.catalogs import catalog, owners
from support.commands import run
from support.jobs import handlers
from support.needs import run_in_psql
from support.servers import MIGRATIONS, Server, new_folder
from support.supervising import ended, supervised
from synk import CancelReason, JobState
from synk.storage import migrate, script
from synk.storage import sql as files
from synk.storage.embedded import EmbeddedServer
from synk.storage.made import made, named

OWNER: Final = "00000000-0000-0000-0000-000000000001"

KEYS: Final = 3
"""The versions from which on there is what the name says."""
COMPLETED: Final = 13

SUPERVISOR: Final = f"""
INSERT INTO synk.client (id, host, pid, version, processes, queues, stopped_at) VALUES
    ('{OWNER}', 'h', 1, '0', 2, '{{default}}', now())
"""

# As the statements and the triggers of then left them. Job 1 completed and was removed, job 2 was
# removed otherwise: before version 13 both count as completed, up to the mark.
ROWS: Final = f"""
INSERT INTO synk.job (id, name, kind, args) VALUES
    (1, 'gone', 'noop', '{{}}'), (2, 'unwanted', 'noop', '{{}}'), (3, 'there', 'noop', '{{}}');
UPDATE synk.job SET state = 'running', attempt = 1, attempted_at = now(), claim_seq = 1,
    owner = '{OWNER}' WHERE id IN (1, 3);
UPDATE synk.job SET state = 'completed', finalized_at = now(), owner = NULL, claim_seq = NULL
WHERE id IN (1, 3);
DELETE FROM synk.job WHERE id < 3;
UPDATE synk.cleaned SET cleaned_up_to = 5;
INSERT INTO synk.job (id, name, kind, args, state, depends_on, scheduled_at) VALUES
    (21, 'done', 'noop', '{{}}', 'available', '{{}}', now()),
    (22, 'parent', 'noop', '{{"n": 0}}', 'available', '{{}}', now()),
    (23, 'later', 'noop', '{{}}', 'available', '{{}}', now() + interval '1 h'),
    (24, 'behind three', 'noop', '{{}}', 'available', '{{22, 21, 23}}', now()),
    (25, 'behind', 'noop', '{{}}', 'available', '{{24, 1}}', now()),
    (26, 'held', 'noop', '{{}}', 'pending', '{{}}', now()),
    (27, 'lost', 'noop', '{{}}', 'available', '{{}}', now()),
    (28, 'unwanted', 'noop', '{{}}', 'available', '{{}}', now()),
    (29, 'free', 'noop', '{{}}', 'available', '{{1}}', now()),
    (30, 'failed', 'noop', '{{}}', 'available', '{{}}', now()),
    (31, 'doomed', 'noop', '{{}}', 'available', '{{28}}', now()),
    (32, 'held behind', 'noop', '{{}}', 'pending', '{{22}}', now());
UPDATE synk.job SET state = 'running', attempt = 1, attempted_at = now(), claim_seq = 1,
    owner = '{OWNER}' WHERE id IN (21, 27, 30);
UPDATE synk.job SET state = 'completed', finalized_at = now(), owner = NULL, claim_seq = NULL,
    acked_by = owner, acked_attempt = 1, duration_us = 5, result = '7' WHERE id = 21;
UPDATE synk.job SET state = 'cancelled', cancel_reason = 'failed', finalized_at = now(),
    owner = NULL, claim_seq = NULL,
    errors = ARRAY['{{"attempt": 1, "error": "no", "cause": "exception"}}'::jsonb] WHERE id = 30;
UPDATE synk.job SET state = 'cancelled', cancel_reason = 'requested', finalized_at = now(),
    cancel_requested_at = now() WHERE id = 28;
SELECT setval(pg_get_serial_sequence('synk.job', 'id'), 32);
"""

OTHERS: Final = """
CREATE VIEW public.names AS SELECT id, name, state FROM synk.job;
CREATE TABLE public.invoice (job bigint REFERENCES synk.job);
INSERT INTO public.invoice VALUES (22);
CREATE FUNCTION synk.noted() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.invoice VALUES (NEW.id); RETURN NULL; END';
CREATE TRIGGER invoiced AFTER INSERT ON synk.job FOR EACH ROW EXECUTE FUNCTION synk.noted();
CREATE INDEX by_name ON synk.job (name);
GRANT INSERT ON synk.job TO pg_monitor;
"""


def fill(dsn: str, version: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        if version > 1:
            connection.execute(SUPERVISOR.encode())
        connection.execute(ROWS.encode())
        if version >= KEYS:
            connection.execute("UPDATE synk.job SET idempotency_key = 'key' WHERE id = 22")


def old(dsn: str, version: int) -> str:
    former.make(dsn, version)
    fill(dsn, version)
    return dsn


def upgrade(dsn: str) -> None:
    storage = synk.PostgresStorage(dsn)
    assert storage.migrate(tell=pytest.fail) == MIGRATIONS
    assert storage.migrate(tell=pytest.fail) == []
    storage.close()


def in_psql(dsn: str, path: Path, schema: str = "synk") -> None:
    path.write_text(script.script(schema))
    done = run_in_psql(path, dsn)
    assert (done.returncode, done.stderr) == (0, "")


def column(dsn: str, query: str) -> list[object]:
    with psycopg.connect(dsn) as connection:
        return [value for (value,) in connection.execute(query.encode())]


STATES: Final = "SELECT (id, state, cancel_reason, attempt, held)::text FROM synk.job ORDER BY id"


@pytest.mark.parametrize("version", former.VERSIONS)
def test_migrate_makes_the_first_schema_of_it_and_keeps_its_rows(
    empty_dsn: str, dsn: str, version: int
) -> None:
    storage = synk.PostgresStorage(old(empty_dsn, version))
    with pytest.raises(synk.SchemaMismatch, match="run `synk migrate`"):
        storage.ping()
    before = column(empty_dsn, STATES)

    upgrade(empty_dsn)

    assert catalog(empty_dsn) == catalog(dsn)
    assert owners(empty_dsn) == owners(dsn)
    assert column(empty_dsn, STATES) == before
    rows = {row.id: row for row in storage.get([3, *range(21, 33)])}
    storage.close()
    assert {row.state for row in rows.values()} == set(JobState)
    assert (rows[21].result, rows[21].duration) == (7, timedelta(microseconds=5))
    assert {row.id: row.waiting_on for row in rows.values() if row.waiting_on} == {
        24: [22, 23],
        25: [24],
        32: [22],
    }
    unmet = "SELECT unmet FROM synk.job WHERE unmet > 0 ORDER BY id"
    assert column(empty_dsn, unmet) == [2, 1, 1]
    reasons = [rows[job_id].cancel_reason for job_id in (28, 30, 31)]
    assert reasons == [CancelReason.REQUESTED, CancelReason.FAILED, CancelReason.DEPENDENCY]
    completed = ["(1,2)", "(4,5)"] if version < COMPLETED else ["(1,1)"]
    assert column(empty_dsn, "SELECT (c.*)::text FROM synk.completed AS c ORDER BY 1") == completed


@pytest.mark.parametrize("version", [1, 2, 3, 7, 14, 19])
def test_what_it_held_runs_and_ids_go_on(empty_dsn: str, version: int) -> None:
    upgrade(old(empty_dsn, version))

    with supervised(empty_dsn, processes=1) as client:
        client.retry(23)
        client.ready(26)
        client.ready(32)
        rows = [ended(client, job_id) for job_id in (22, 23, 24, 25, 26, 27, 29, 32)]
        if version >= KEYS:
            keyed = synk.InsertOptions(idempotency_key="key")
            assert client.insert("again", handlers.Noop(), keyed) == 22
        after_one_that_is_gone = synk.InsertOptions(depends_on=(1,))
        rows.append(ended(client, client.insert("new", handlers.Noop(), after_one_that_is_gone)))

    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert rows[-1].id > 32
    assert (rows[5].attempt, rows[5].errors[0].cause) == (2, "lost")


@pytest.mark.parametrize("version", former.VERSIONS[1:])
def test_it_is_left_as_it_was_while_a_supervisor_of_before_runs(
    empty_dsn: str, version: int
) -> None:
    former.make(empty_dsn, version)
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(SUPERVISOR.encode())
        connection.execute("UPDATE synk.client SET stopped_at = NULL")
    before = catalog(empty_dsn)

    with pytest.raises(synk.StorageError, match="stop them"):
        synk.PostgresStorage(empty_dsn).migrate()

    assert catalog(empty_dsn) == before


@pytest.mark.parametrize("version", [1, 7, 14, 19])
def test_rights_views_keys_and_triggers_of_others_stay(empty_dsn: str, version: int) -> None:
    old(empty_dsn, version)
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(OTHERS.encode())

        upgrade(empty_dsn)

        connection.execute("INSERT INTO synk.job (kind, name) VALUES ('k', 'invoiced')")
    assert column(empty_dsn, "SELECT count(*) FROM public.names") == [14]
    assert column(empty_dsn, "SELECT job FROM public.invoice ORDER BY 1") == [22, 33]
    may = "SELECT has_table_privilege('pg_monitor', 'synk.job', 'INSERT')"
    assert column(empty_dsn, may) == [True]
    assert column(empty_dsn, "SELECT count(*) FROM pg_indexes WHERE indexname = 'by_name'") == [1]


@pytest.mark.parametrize(
    ("version", "made"),
    [
        (1, "CREATE TABLE synk.client (id int)"),
        (7, "CREATE FUNCTION synk.retry(bigint) RETURNS text LANGUAGE sql AS 'SELECT NULL'"),
        (14, "CREATE TABLE synk.tie (id int)"),
        (16, "CREATE VIEW synk.unsettled AS SELECT 1"),
        (19, "CREATE TABLE synk.setting (id int)"),
        (19, "CREATE VIEW synk.seen AS SELECT waiting_on FROM synk.job"),
    ],
)
def test_what_is_somebody_elses_is_refused_and_left_as_it_was(
    empty_dsn: str, version: int, made: str
) -> None:
    former.make(empty_dsn, version)
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(made.encode())
    before = catalog(empty_dsn)

    with pytest.raises(synk.StorageError, match=r"not made by synk|other objects depend on it"):
        synk.PostgresStorage(empty_dsn).migrate()

    assert catalog(empty_dsn) == before


def test_no_name_that_is_taken_anew_is_forgotten(empty_dsn: str) -> None:
    former.make(empty_dsn, 1)
    things = made("synk", migrate.LATEST)
    relations = [f"'synk.{name}'" for name in named(things, "TABLE", "INDEX")]
    functions = [f"'synk.{name}'" for name in named(things, "FUNCTION")]
    query = "SELECT n FROM unnest(ARRAY[{}]) AS n WHERE to_reg{}(n) IS NULL"
    new = column(empty_dsn, query.format(", ".join(relations), "class"))
    new += column(empty_dsn, query.format(", ".join(functions), "procedure"))

    text = Path(files.__file__).with_name("upgrade_former.sql").read_text()
    assert [name for name in new if f"'{name}'" not in text] == []


def test_a_row_that_nobody_could_read_is_named(empty_dsn: str) -> None:
    old(empty_dsn, 1)
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute("UPDATE synk.job SET scheduled_at = 'infinity' WHERE id = 23")

    with pytest.raises(synk.StorageError, match="job 23 has scheduled_at = infinity"):
        synk.PostgresStorage(empty_dsn).migrate()


@pytest.mark.parametrize("version", former.VERSIONS)
def test_the_script_makes_the_first_schema_of_it(
    empty_dsn: str, dsn: str, tmp_path: Path, version: int
) -> None:
    old(empty_dsn, version)
    before = column(empty_dsn, STATES)

    for _ in range(2):
        in_psql(empty_dsn, tmp_path / "synk.sql")

    assert catalog(empty_dsn) == catalog(dsn)
    assert owners(empty_dsn) == owners(dsn)
    assert column(empty_dsn, STATES) == before
    noted = "SELECT to_char(version, 'FM000 ') || name FROM synk.migration ORDER BY version"
    assert column(empty_dsn, noted) == ["000 schema", *MIGRATIONS]


@pytest.mark.parametrize("version", [1, 14])
@pytest.mark.parametrize("by_hand", [False, True])
def test_the_schema_may_have_another_name(
    server15: Server, tmp_path: Path, version: int, by_hand: bool
) -> None:
    with server15.database(migrated=False) as dsn:
        former.make(dsn, version, "other")
        storage = synk.PostgresStorage(dsn, schema="other")

        if by_hand:
            in_psql(dsn, tmp_path / "synk.sql", "other")
        else:
            assert storage.migrate(tell=pytest.fail) == MIGRATIONS

        assert storage.migrate(tell=pytest.fail) == []
        with supervised(dsn, storage=storage, processes=1) as client:
            first = client.insert("one", handlers.Noop())
            after = client.insert("two", handlers.Noop(), synk.InsertOptions(depends_on=(first,)))
            assert ended(client, after).state is JobState.COMPLETED
        storage.close()


# All but the last thousand completed jobs have been removed; each of those behind depends on two.
MANY: Final = """
INSERT INTO synk.job (kind, name, args) SELECT 'noop', 'n', '{}' FROM generate_series(1, 10002);
UPDATE synk.job SET state = 'running', attempt = 1, attempted_at = now(), claim_seq = 1,
    owner = '00000000-0000-0000-0000-000000000001' WHERE id <= 10000;
INSERT INTO synk.job (kind, name, args, depends_on)
SELECT 'noop', 'n', '{}', ARRAY[n, 10000 + n % 3] FROM generate_series(8002, 10000) AS n;
UPDATE synk.job SET state = 'completed', finalized_at = now(), owner = NULL, claim_seq = NULL
WHERE id <= 10000;
DELETE FROM synk.job WHERE id <= 9000;
UPDATE synk.cleaned SET cleaned_up_to = 9000;
"""


@pytest.mark.parametrize("version", [7, 12, 13, 16, 19])
def test_jobs_wait_for_what_has_not_completed_whatever_was_removed(
    empty_dsn: str, version: int
) -> None:
    former.make(empty_dsn, version)
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(MANY.encode())

    upgrade(empty_dsn)

    assert column(empty_dsn, "SELECT (c.*)::text FROM synk.completed AS c") == ["(1,9000)"]
    states = (
        "SELECT (j.state, j.unmet, count(*))::text FROM synk.job AS j GROUP BY j.state, j.unmet"
        " ORDER BY j.state, j.unmet"
    )
    assert column(empty_dsn, states) == [
        "(available,0,668)",
        "(completed,0,1000)",
        "(pending,1,1333)",
    ]
    assert column(empty_dsn, "SELECT DISTINCT dependency FROM synk.tie ORDER BY 1") == [
        10001,
        10002,
    ]


@pytest.fixture
def base() -> Iterator[Path]:
    folder = new_folder("synk-test-")
    yield folder
    shutil.rmtree(folder)


def test_the_demo_runs_in_an_embedded_database_that_was_kept(base: Path) -> None:
    with EmbeddedServer(base / "server") as server:
        former.make(server.conninfo, 14)
    (base / "files").mkdir()
    (base / "files" / "one.txt").write_text("text")

    done = run("demo", str(base / "files"), "--storage", f"embedded://{base}/server")

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
