"""What a session planned when the tables were empty reads a few rows when they are large."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from support.servers import Server

ROWS = 50_000
OWNER = uuid.UUID(int=7)
TABLES = "{synk.job, synk.permit, synk.rate, synk.watched}"
SCOPE = '{"by": ["args.n"], "until": "started"}'

LOAD = f"""
INSERT INTO synk.job (kind, name, args, unique_scope, unique_key)
SELECT 'k', 'x', a.args, '{SCOPE}', synk.unique_key('k', 'default', a.args, '{SCOPE}')
FROM generate_series(1, {ROWS}) AS n
CROSS JOIN LATERAL (SELECT jsonb_build_object('n', n)) AS a (args);
INSERT INTO synk.job (kind, name, queue, limit_key)
SELECT 'k', 'x', 'keyed', 'tenant:' || n FROM generate_series(1, {ROWS}) AS n;
INSERT INTO synk.rate (key) SELECT 'tenant:' || n FROM generate_series(1, {ROWS}) AS n;
INSERT INTO synk.watched (id, at)
SELECT n, now() + interval '1 h' FROM generate_series(1, {ROWS}) AS n
"""

STATEMENTS = {
    "a replacement of a unique job": f"""
        INSERT INTO synk.job (kind, name, args, unique_scope)
        VALUES ('k', 'x', '{{"n": -1}}', '{SCOPE}');
        SELECT synk.unique_replace(
            'k', 'default', '{{"n": -1}}', '{SCOPE}', now(), 2::smallint, NULL)
        """,
    "a unique job that begins anew": f"""
        INSERT INTO synk.job (id, kind, name, args, state, finalized_at, unique_scope)
        OVERRIDING SYSTEM VALUE
        VALUES (1000000000, 'k', 'x', '{{"n": -1}}', 'completed', now(), '{SCOPE}');
        SELECT synk.retry(1000000000)
        """,
    "jobs that a rate lets begin": "SELECT synk.let_begin('tenant:5', 3, 10, interval '1 minute')",
    "a job to be looked at later": """
        INSERT INTO synk.job (kind, name, keep) VALUES ('k', 'x', interval '1 h')
        """,
    "permits that are given back": f"""
        INSERT INTO synk.permit (key, slot, owner, claim_seq) VALUES ('tenant:5', 0, '{OWNER}', 1);
        DELETE FROM synk.permit
        """,
}


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[psycopg.Connection]:
    """A session of somebody else's, who has none of synk's settings."""
    with server.database() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ANALYZE")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        for statement in STATEMENTS.values():
            with connection.transaction(force_rollback=True):
                connection.execute(statement.encode())
        with psycopg.connect(dsn) as loader:
            loader.execute("SET session_replication_role = replica")
            loader.execute(LOAD.encode())
        yield connection


@pytest.mark.parametrize("name", STATEMENTS)
@pytest.mark.parametrize("known", ["fresh", "analyzed"])
def test_d11_a_function_reads_a_few_rows_whatever_there_was_when_it_was_planned(
    connection: psycopg.Connection, name: str, known: str
) -> None:
    if known == "analyzed":
        connection.execute("ANALYZE")
    with connection.transaction(force_rollback=True):
        before = read(connection)
        connection.execute(STATEMENTS[name].encode())
        after = read(connection)

    assert after - before <= 20


def read(connection: psycopg.Connection) -> int:
    """The rows that this transaction has read so far."""
    row = connection.execute(
        "SELECT sum(seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables"
        " WHERE relid = ANY (%s::regclass[])",
        (TABLES,),
    ).fetchone()
    assert row is not None
    return row[0]
