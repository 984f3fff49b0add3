"""What a supervisor does about each thing that the server may say instead of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import synk
from support.facts import Facts
from support.jobs import handlers
from support.proxy import Proxy
from support.servers import Server
from support.supervising import supervised, wait_until
from synk import JobState, telemetry
from synk.claim import AckAnswer, ClaimedJob, Outcome
from synk.runtime.supervisor import backoff
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
    server: Server, state: str
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
    assert len(facts.of(telemetry.StorageFailing, loop=loop)) <= len(large) + 1


RETRIED = ("40001", "40P01", "55P03", "57014")
USELESS = ("08006", "57P01", "57P02", "57P03", "25006")
FULL = ("53100", "53200", "53300", "58030")
DATA = ("22P02", "23514", "54000")
WRONG = ("42501", "42P01", "3F000", "28000", "55000", "P0001", "XX000")


@pytest.fixture(scope="module")
def served(server: Server) -> Iterator[tuple[Proxy, synk.Client, Facts]]:
    """One supervisor behind a proxy, for all of them: it must outlive each."""
    with (
        pytest.MonkeyPatch.context() as patched,
        server.database() as dsn,
        Proxy(dsn) as proxy,
        supervised(proxy.dsn, processes=1) as client,
    ):
        patched.setattr(backoff, "PAUSE_MAX_S", 0.02)
        yield proxy, client, Facts(client)


@pytest.mark.parametrize("statement", ["claim", "ack"])
@pytest.mark.parametrize("sqlstate", [*RETRIED, *USELESS, *FULL, *DATA, *WRONG])
def test_d17_whatever_the_server_says_no_job_is_lost_and_the_supervisor_goes_on(
    served: tuple[Proxy, synk.Client, Facts], sqlstate: str, statement: str
) -> None:
    proxy, client, facts = served
    storage = client.storage
    assert isinstance(storage, PostgresStorage)
    loop = {"claim": "claiming", "ack": "acknowledging"}[statement]
    told = len(facts.of(telemetry.StorageFailing, loop=loop))
    pool = storage.connector._opened_pool()
    with proxy.refusing(statement, sqlstate=sqlstate, message="as asked") as refusal:
        job_id = wait_until(lambda: inserted(client), what="an insert")
        wait_until(lambda: refusal.count >= 3, what="it to be tried again")
        kept = storage.connector._pool is pool
    row = wait_until(lambda: final(client, job_id), what="the job to end")
    wait_until(lambda: len(facts.of(telemetry.StorageRecovered, loop=loop)) == told + 1)

    assert (row.state, row.attempt, row.uncounted) == (JobState.COMPLETED, 1, 0)
    (problem,) = facts.of(telemetry.StorageFailing, loop=loop)[told:]
    assert "as asked" in problem.problem
    assert kept == (sqlstate not in USELESS)


def inserted(client: synk.Client) -> int | None:
    """Inserts a job; the pool may just be dropped for what a claim was told."""
    try:
        return client.insert("x", handlers.Noop())
    except synk.StorageUnavailable:
        return None


def final(client: synk.Client, job_id: int) -> synk.JobRow | None:
    try:
        row = client.get(job_id)
    except synk.StorageUnavailable:
        return None
    return row if row is not None and row.state.is_final else None
