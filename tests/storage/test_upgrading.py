"""Upgrades of a table that is in use, and upgrades by hand."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest

import synk
from support.catalogs import catalog, owners
from support.needs import run_in_psql
from support.servers import MIGRATIONS, Server
from support.upgrades import BEFORE, at_version, later_code
from synk.storage import migrate, script
from synk.storage import sql as files
from synk.testing.making import insert

FIRST: Final = 6
"""The version of the first schema, which finds no table."""

MANY_ROWS: Final = """
INSERT INTO synk.job (kind, name, queue, args, state, attempt, attempted_at, finalized_at)
SELECT 'old', 'old', 'old', '{}', 'completed', 1, now(), now() FROM generate_series(1, 200000)
"""


@pytest.fixture(autouse=True)
def later() -> Iterator[list[str]]:
    """The names of the migrations that this process has and the database has not."""
    with later_code() as names:
        yield names


class Upgrade:
    """A migration in a thread, and what it tells."""

    def __init__(self, dsn: str) -> None:
        self.told: list[str] = []
        self.heard = threading.Event()
        self.applied: list[str] = []
        self._dsn = dsn
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        storage = synk.PostgresStorage(self._dsn)
        self.applied = storage.migrate(tell=self._tell)
        storage.close()

    def _tell(self, line: str) -> None:
        self.told.append(line)
        self.heard.set()

    @property
    def is_under_way(self) -> bool:
        return self._thread.is_alive()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._thread.join(60)
            assert not self._thread.is_alive()


def test_d26_an_upgrade_waits_for_a_reader_and_inserts_do_not(
    empty_dsn: str, later: list[str]
) -> None:
    at_version(empty_dsn, BEFORE)
    upgrade = Upgrade(empty_dsn)
    storage = synk.PostgresStorage(empty_dsn)
    insert(storage)
    with psycopg.connect(empty_dsn) as reader:
        pid = reader.info.backend_pid
        reader.execute("SELECT count(*) FROM synk.job")
        with upgrade.under_way():
            assert upgrade.heard.wait(30)
            for _ in range(20):
                # Each try is over before the time that an insert waits for a lock.
                insert(storage)
            reader.rollback()

    assert f"job: pid {pid}" in upgrade.told[0]
    assert "idle in transaction" in upgrade.told[0]
    assert upgrade.applied == later
    assert storage.counts()[synk.JobState.AVAILABLE] == 21
    storage.close()


def test_d26_an_upgrade_that_never_gets_its_locks_gives_up_and_has_changed_nothing(
    empty_dsn: str,
) -> None:
    at_version(empty_dsn, BEFORE)
    with (
        psycopg.connect(empty_dsn) as reader,
        psycopg.connect(empty_dsn, autocommit=True) as connection,
    ):
        reader.execute("SELECT count(*) FROM synk.job")

        with pytest.raises(synk.StorageConflict, match=f"pid {reader.info.backend_pid}"):
            migrate.apply(connection, tell=lambda _: None, patience_s=0.1)

        noted = reader.execute("SELECT max(version) FROM synk.migration").fetchone()
    assert noted == (BEFORE,)


def test_who_waits_for_another_migration_holds_nothing(empty_dsn: str, later: list[str]) -> None:
    at_version(empty_dsn, BEFORE)
    upgrade = Upgrade(empty_dsn)
    with psycopg.connect(empty_dsn) as other:
        pid = other.info.backend_pid
        other.execute("SELECT pg_advisory_xact_lock(7959371058302)")
        with upgrade.under_way():
            assert upgrade.heard.wait(30)
            held = other.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL AND state <> 'active'"
            ).fetchone()
            other.rollback()

    assert held == (0,)
    assert f"another migration: pid {pid}" in upgrade.told[0]
    assert upgrade.applied == later


def test_time_outs_of_the_database_do_not_end_a_migration(empty_dsn: str, later: list[str]) -> None:
    """They are shorter than it waits for a lock."""
    at_version(empty_dsn, BEFORE)
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        name = connection.info.dbname
        settings = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
        if connection.info.server_version >= 170000:
            settings.append("transaction_timeout")
        upgrade = Upgrade(empty_dsn)
        with psycopg.connect(empty_dsn) as reader:
            reader.execute("SELECT count(*) FROM synk.job")
            for setting in settings:
                connection.execute(f"ALTER DATABASE {name} SET {setting} = '300ms'".encode())
            with upgrade.under_way():
                assert upgrade.heard.wait(30)
                reader.rollback()

    assert "idle in transaction" in upgrade.told[0]
    assert upgrade.applied == later


def test_no_upgrade_looks_through_the_table_while_it_keeps_others_out() -> None:
    """Of those that may meet a large table. Indexes are built ahead, outside of a transaction."""
    for version, name, text in files.migrations()[FIRST + 1 :]:
        statements = re.sub(r"--[^\n]*|\$\$.*?\$\$", "", text, flags=re.DOTALL).split(";")
        made = set(re.findall(r"CREATE TABLE (\S+)", text))
        for statement in statements:
            added = statement.count("ADD CONSTRAINT")
            assert added == statement.count("NOT VALID"), f"{version} {name}"
            validates = "VALIDATE CONSTRAINT" in statement
            assert not (validates and "ADD CONSTRAINT" in text), f"{version} {name}"
            indexed = re.search(r"CREATE (?:UNIQUE )?INDEX \w+ ON (\S+)", statement)
            assert indexed is None or indexed[1] in made, f"{version} {name}"
            rewritten = (
                r"ALTER (COLUMN )?\w+ (TYPE|SET NOT NULL)"
                r"|ADD COLUMN[^,]* (DEFAULT|GENERATED)[^,]*\("
            )
            assert not re.search(rewritten, statement), f"{version} {name}"


def test_d26_inserts_go_on_while_a_large_table_is_upgraded(
    empty_dsn: str, later: list[str]
) -> None:
    at_version(empty_dsn, BEFORE)
    upgrade = Upgrade(empty_dsn)
    stored = 0
    with (
        psycopg.connect(empty_dsn, autocommit=True) as filling,
        psycopg.connect(empty_dsn, autocommit=True, options="-c lock_timeout=900ms") as producer,
    ):
        filling.execute("SET session_replication_role = replica")
        filling.execute(MANY_ROWS)
        with upgrade.under_way():
            while upgrade.is_under_way:
                # The longest try for a lock is shorter than its time limit.
                producer.execute("INSERT INTO synk.job (kind, name) VALUES ('k', 'n')")
                stored += 1
        row = producer.execute("SELECT count(*) FROM synk.job WHERE kind = 'k'").fetchone()

    assert upgrade.applied == later
    assert row == (stored,)
    assert stored > len(upgrade.applied)


@pytest.mark.parametrize("version", [0, 2, BEFORE, BEFORE + 2, BEFORE + 5])
def test_the_script_brings_any_version_up_to_date_in_psql(
    empty_dsn: str, dsn: str, tmp_path: Path, later: list[str], version: int
) -> None:
    at_version(dsn, BEFORE + len(later))
    at_version(empty_dsn, version)
    path = tmp_path / "synk.sql"
    path.write_text(script.script())

    for _ in range(2):
        done = run_in_psql(path, empty_dsn)
        assert (done.returncode, done.stderr) == (0, "")

    assert catalog(empty_dsn) == catalog(dsn)
    assert owners(empty_dsn) == owners(dsn)
    with psycopg.connect(empty_dsn) as connection:
        noted = connection.execute("SELECT version, name FROM synk.migration ORDER BY 1").fetchall()
    assert [f"{number:03} {name}" for number, name in noted[1:]] == MIGRATIONS + later
    storage = synk.PostgresStorage(empty_dsn)
    assert storage.migrate(tell=pytest.fail) == []
    insert(storage)
    storage.close()


def test_the_script_stops_at_a_table_of_somebody_elses(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "synk.sql"
    path.write_text(script.script("app"))
    with server.database(migrated=False) as dsn, psycopg.connect(dsn, autocommit=True) as own:
        own.execute("CREATE SCHEMA app; CREATE TABLE app.job (id int)")

        done = run_in_psql(path, dsn)

        assert done.returncode == 3
        assert "not made by it" in done.stderr
        assert own.execute("SELECT to_regclass('app.migration')").fetchone() == (None,)


def put_a_job(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO synk.job (kind, name) VALUES ('k', 'n')")


def is_valid(dsn: str, index: str) -> bool | None:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (index,)
        ).fetchone()
    return None if row is None else row[0]


def test_an_index_on_a_table_with_rows_is_built_beside_writers(
    empty_dsn: str, later: list[str]
) -> None:
    at_version(empty_dsn, BEFORE)
    put_a_job(empty_dsn)
    upgrade = Upgrade(empty_dsn)
    with psycopg.connect(empty_dsn) as writer:
        writer.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        writer.execute(
            "INSERT INTO synk.stack_question (owner, job_id) VALUES (gen_random_uuid(), 1)"
        )
        with upgrade.under_way():
            # The build waits for this transaction, and nobody for the build.
            while is_valid(empty_dsn, "synk.job_remark") is None:
                put_a_job(empty_dsn)
            assert is_valid(empty_dsn, "synk.job_remark") is False
            put_a_job(empty_dsn)
            writer.rollback()

    assert upgrade.applied == later
    assert is_valid(empty_dsn, "synk.job_remark") is True


def test_an_index_that_was_left_half_built_is_built_anew(empty_dsn: str, later: list[str]) -> None:
    at_version(empty_dsn, BEFORE + 4)
    put_a_job(empty_dsn)
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute("CREATE INDEX job_remark ON synk.job (remark) WHERE remark IS NOT NULL")
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'synk.job_remark'::regclass"
        )
        connection.execute("ALTER TABLE synk.job ADD COLUMN found_by varchar(50)")

    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '3s'")
        assert migrate.apply(connection, with_roles=False) == later[4:]
        assert connection.execute("SHOW lock_timeout").fetchone() == ("3s",)

    assert is_valid(empty_dsn, "synk.job_remark") is True


def test_two_that_migrate_at_once_build_an_index_once(empty_dsn: str, later: list[str]) -> None:
    at_version(empty_dsn, BEFORE)
    put_a_job(empty_dsn)
    one, other = Upgrade(empty_dsn), Upgrade(empty_dsn)

    with one.under_way(), other.under_way():
        pass

    assert sorted(one.applied + other.applied) == later
    assert is_valid(empty_dsn, "synk.job_remark") is True
