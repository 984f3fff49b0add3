"""Migrations applied by the library and by hand."""

from __future__ import annotations

import re

import psycopg
import psycopg_pool
import pytest
from psycopg.rows import dict_row

import synk
from support.catalogs import catalog
from support.servers import MIGRATIONS
from synk.storage import script
from synk.testing.making import claim, insert


def run_script(dsn: str, schema: str = "synk") -> None:
    # What is sent together is one transaction, in which no index is built beside writers.
    parts = re.split(
        r"^(CREATE (?:UNIQUE )?INDEX CONCURRENTLY[^;]*;)$",
        script.script(schema),
        flags=re.MULTILINE,
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        for part in parts:
            connection.execute(part.encode())


def test_a_schema_made_by_hand_is_the_same(dsn: str, empty_dsn: str) -> None:
    run_script(empty_dsn)

    assert catalog(empty_dsn) == catalog(dsn)
    storage = synk.PostgresStorage(empty_dsn)
    assert storage.migrate() == []
    storage.ping()
    storage.close()


def test_a_schema_whose_name_is_a_word_of_sql_can_be_made_by_hand(empty_dsn: str) -> None:
    run_script(empty_dsn, "user")

    storage = synk.PostgresStorage(empty_dsn, schema="user")
    storage.ping()
    job_id = insert(storage)
    assert [job.id for job in claim(storage)] == [job_id]
    storage.close()


def test_a_script_that_is_run_again_changes_nothing(dsn: str) -> None:
    before = catalog(dsn)

    run_script(dsn)

    assert catalog(dsn) == before


def test_a_repeated_migration_does_nothing(dsn: str) -> None:
    before = catalog(dsn)

    assert synk.PostgresStorage(dsn).migrate() == []
    assert catalog(dsn) == before


def test_a_database_without_a_schema_is_told_to_migrate(empty_dsn: str) -> None:
    storage = synk.PostgresStorage(empty_dsn)

    for ask in (storage.ping, storage.counts):
        with pytest.raises(synk.SchemaMismatch, match="synk migrate"):
            ask()
    storage.close()


def test_a_schema_of_no_version_is_told_to_migrate(dsn: str, connection) -> None:
    connection.execute("DELETE FROM synk.migration")
    storage = synk.PostgresStorage(dsn)

    with pytest.raises(
        synk.SchemaMismatch, match=r"at version 0, this synk needs \d+ or later: run `synk"
    ):
        storage.ping()
    storage.close()


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_pool_of_the_users_migrates_whatever_its_rows_look_like(
    empty_dsn: str, *, autocommit: bool
) -> None:
    kwargs = {"row_factory": dict_row, "autocommit": autocommit}
    with psycopg_pool.ConnectionPool(empty_dsn, kwargs=kwargs, min_size=1, open=True) as pool:
        storage = synk.PostgresStorage(pool)

        assert storage.migrate() == MIGRATIONS
        assert storage.migrate() == []
        storage.ping()


def test_migrations_run_on_postgres_15(server15) -> None:
    with server15.database(migrated=False) as dsn:
        storage = synk.PostgresStorage(dsn)
        assert storage.migrate() == MIGRATIONS
        storage.ping()
        storage.close()
