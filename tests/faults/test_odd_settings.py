"""D20: roles and databases whose settings are nothing like PostgreSQL's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

import synk
from support.acknowledging import acknowledging
from support.facts import Facts
from support.jobs import handlers
from support.servers import Server
from support.supervising import ended, supervised, wait_until
from synk import JobState, telemetry
from synk.storage.postgres import PostgresStorage
from synk.testing.making import claim, insert, outcome_of

HOSTILE = {
    "client_encoding": "'LATIN1'",
    "search_path": "elsewhere",
    "DateStyle": "'German', 'DMY'",
    "IntervalStyle": "sql_standard",
    "TimeZone": "'Pacific/Kiritimati'",
    "array_nulls": "off",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "'1ms'",
    "lock_timeout": "'1ms'",
    "idle_session_timeout": "'50ms'",
    "idle_in_transaction_session_timeout": "'1ms'",
    "gin_fuzzy_search_limit": "1",
    "enable_nestloop": "off",
    "enable_hashjoin": "on",
    "enable_tidscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "transform_null_equals": "on",
    "standard_conforming_strings": "off",
    "extra_float_digits": "'-15'",
    "row_security": "off",
}
NAME = "тест 試 ✓"


@pytest.fixture(params=["role", "database"])
def hostile(request: pytest.FixtureRequest, server: Server) -> Iterator[str]:
    """The DSN of a login that has these settings, of its own or of the database."""
    with server.database() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        database = sql.Identifier(connection.info.dbname)
        name = f"hostile_{connection.info.dbname[-12:]}"
        role = sql.Identifier(name)
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' IN ROLE synk_supervisor").format(role)
        )
        whose = {"role": role, "database": database}[request.param].as_string()
        for setting, value in HOSTILE.items():
            text = f"ALTER {request.param} {whose} SET {setting} TO {value}"
            connection.execute(text.encode())
        yield make_conninfo(dsn, user=name, password="x")
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def shown(connection: psycopg.Connection[Any], setting: str) -> str:
    row = connection.execute(f"SHOW {setting}".encode()).fetchone()
    assert row is not None
    return row[0]


def test_d20_what_synk_relies_on_is_set_whatever_the_role_or_the_database_says(
    hostile: str,
) -> None:
    with psycopg.connect(hostile) as plain:
        assert plain.info.parameter_status("client_encoding") == "LATIN1"
    storage = PostgresStorage(hostile)
    with storage.connector.connection() as pooled, storage.connector.single() as single:
        for connection in (pooled, single):
            assert {
                name: shown(connection, name)
                for name in (
                    "client_encoding",
                    "TimeZone",
                    "array_nulls",
                    "default_transaction_isolation",
                    "idle_session_timeout",
                    "enable_hashjoin",
                    "enable_nestloop",
                    "enable_tidscan",
                    "gin_fuzzy_search_limit",
                )
            } == {
                "client_encoding": "UTF8",
                "TimeZone": "UTC",
                "array_nulls": "on",
                "default_transaction_isolation": "read committed",
                "idle_session_timeout": "0",
                "enable_hashjoin": "off",
                "enable_nestloop": "on",
                "enable_tidscan": "on",
                "gin_fuzzy_search_limit": "0",
            }
    storage.close()


def test_d20_jobs_run_as_anywhere_else(hostile: str) -> None:
    retried = synk.InsertOptions(max_retries=1)
    with supervised(hostile) as client:
        facts = Facts(client)
        parents = client.insert_many([(NAME, handlers.Typed(n, [NAME])) for n in range(30)])
        after = synk.InsertOptions(depends_on=tuple(parents))
        dependents = client.insert_many([(NAME, handlers.StructArgs(NAME), after)] * 3)
        failing = client.insert("x", handlers.Misbehave("second_attempt"), retried)
        rows = [ended(client, job_id) for job_id in (*parents, *dependents, failing)]

    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert rows[0].name == NAME
    assert rows[0].result == {"double": 0, "tags": [NAME], "attempt": 1}
    assert rows[-2].result == NAME
    assert rows[-1].attempt == 2
    assert rows[-1].errors[0].error == "RuntimeError: not yet"
    assert rows[0].created_at.tzinfo is not None
    assert facts.of(telemetry.StorageFailing) == []


def test_d20_an_asyncio_producer_is_spared_them_too(hostile: str) -> None:
    async def use() -> synk.JobRow | None:
        async with synk.AsyncClient(storage=PostgresStorage(hostile)) as client:
            ids = await client.insert_many([(NAME, handlers.Noop())] * 2)
            return await client.get(ids[1])

    row = asyncio.run(use())

    assert row is not None
    assert row.name == NAME


def test_d20_settings_in_the_dsn_take_the_place_of_synks_and_only_those(dsn: str) -> None:
    storage = PostgresStorage(make_conninfo(dsn, options="-c lock_timeout=7s -c work_mem=5MB"))
    with storage.connector.connection() as connection:
        told = [
            shown(connection, name)
            for name in ("lock_timeout", "work_mem", "statement_timeout", "DateStyle")
        ]
    storage.close()

    assert told == ["7s", "5MB", "50s", "ISO, MDY"]


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout", "transaction_timeout"])
def test_d20_where_a_pools_sessions_give_up_soon_an_outcome_is_kept_and_tried_again(
    dsn: str, connection: psycopg.Connection, setting: str
) -> None:
    if setting == "transaction_timeout" and connection.info.server_version < 170_000:
        pytest.skip("this PostgreSQL has no transaction_timeout: it came with 17")
    kwargs = {"options": f"-c {setting}=200ms"}
    with (
        psycopg.connect(dsn) as other,
        ConnectionPool(dsn, kwargs=kwargs, min_size=1, open=True) as pool,
    ):
        storage = PostgresStorage(pool)
        first, second = insert(storage), insert(storage)
        jobs = claim(storage, 2)
        other.execute("LOCK TABLE synk.job IN EXCLUSIVE MODE")
        outcomes = [outcome_of(job, result='"precious"') for job in jobs]
        with acknowledging(storage, outcomes) as (acks, facts):
            facts.wait_for(telemetry.StorageFailing, loop="acknowledging")
            assert acks.unacknowledged == 2
            with pytest.raises(synk.StorageConflict):
                insert(storage)
            other.rollback()
            wait_until(lambda: not acks.unacknowledged, what="them to be stored")
        rows = storage.get([first, second])

    assert [row.result for row in rows] == ["precious"] * 2
    assert facts.of(telemetry.OutcomeReduced) == []
