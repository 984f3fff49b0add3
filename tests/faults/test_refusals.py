"""What a supervisor does about each thing that the server may say instead of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import handlers
from faults.facts import Facts
from supervising import supervised, wait_until
from synk import JobState, telemetry
from synk.job import AckAnswer, ClaimedJob, Outcome
from synk.storage.postgres import PostgresStorage

SLOWLY = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.004); RETURN NEW; END $$;
CREATE TRIGGER slowly BEFORE UPDATE ON synk.job FOR EACH ROW
    WHEN (NEW.state = '{state}') EXECUTE FUNCTION slowly();
"""


class CountingStorage(PostgresStorage):
    """Takes note of how many jobs each statement was to have."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.claims: list[int] = []
        self.acks: list[int] = []

    def get_job_available(self, queue: str, limit: int, **options: Any) -> list[ClaimedJob]:
        self.claims.append(limit)
        return super().get_job_available(queue, limit, **options)

    def update_job_state(self, owner: UUID, outcomes: Sequence[Outcome]) -> list[AckAnswer]:
        self.acks.append(len(outcomes))
        return super().update_job_state(owner, outcomes)


@pytest.mark.parametrize("state", ["running", "completed"])
def test_d18_a_statement_that_takes_too_long_is_repeated_with_fewer_jobs(
    server, state: str
) -> None:
    """A server that is slow at every row, and gives up on a statement after a fifth of a second."""
    with server.database() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SLOWLY.format(state=state).encode())
        storage = CountingStorage(make_conninfo(dsn, options="-c statement_timeout=200ms"))
        with supervised(dsn, storage=storage) as client:
            facts = Facts(client)
            ids = client.insert_many([("x", handlers.Noop())] * 300)
            wait_until(lambda: client.storage.counts() == {JobState.COMPLETED: 300})
            rows = storage.get(ids)

    sizes = storage.claims if state == "running" else storage.acks
    large = [size for size in sizes if size > 50]
    assert large
    assert large == sorted(set(large), reverse=True)
    assert {row.attempt for row in rows} == {1}
    loop = "claiming" if state == "running" else "acknowledging"
    assert len(facts.of(telemetry.StorageTrouble, loop=loop)) <= len(large) + 1
