"""P4: databases whose encoding is not UTF-8."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

import synk
from support.facts import Facts
from support.jobs import handlers, hostile
from support.servers import Server
from support.supervising import ended, supervised
from synk import JobState, telemetry

ONCE = synk.InsertOptions(max_retries=0)


@pytest.fixture
def dsn_in(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database in an encoding, with synk's schema."""
    name = f"synk_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(
            sql.SQL(
                "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'"
            ).format(sql.Identifier(name), sql.Literal(request.param))
        )
        try:
            storage = synk.PostgresStorage(server.dsn_of(name))
            storage.migrate()
            storage.close()
            yield server.dsn_of(name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.parametrize("dsn_in", ["SQL_ASCII"], indirect=True)
def test_p4_a_database_without_an_encoding_keeps_any_text(dsn_in: str) -> None:
    with supervised(dsn_in, processes=1) as client:
        row = ended(client, client.insert("Grüße, 日本", handlers.StructArgs(path="日本")))
        (listed,) = client.storage.jobs()

    assert (row.name, row.state, row.result) == ("Grüße, 日本", JobState.COMPLETED, "日本")
    assert (listed.id, listed.name) == (row.id, row.name)


@pytest.mark.parametrize("dsn_in", ["LATIN1"], indirect=True)
def test_p4_a_text_that_the_database_cannot_hold_is_refused_or_left_out(dsn_in: str) -> None:
    workers = [*handlers.WORKERS, *hostile.WORKERS]
    with supervised(dsn_in, processes=1, workers=workers) as client:
        facts = Facts(client)
        kept = ended(client, client.insert("Grüße", handlers.StructArgs(path="Grüße")))
        with pytest.raises(synk.InvalidJob):
            client.insert("日本", handlers.Noop())
        with pytest.raises(synk.InvalidJob):
            client.insert("x", handlers.StructArgs(path="日本"))
        failed = ended(client, client.insert("x", hostile.SayFar(), ONCE))
        later = ended(client, client.insert("x", handlers.Noop()))

    assert (kept.name, kept.result) == ("Grüße", "Grüße")
    assert failed.state is JobState.CANCELLED
    assert "the storage refused the record" in failed.errors[0].error
    assert facts.of(telemetry.OutcomeReduced, job_id=failed.id)
    assert later.state is JobState.COMPLETED
