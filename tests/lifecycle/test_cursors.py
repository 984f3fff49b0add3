"""Jobs that lie before the place where the last claim stopped are found during a drain."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

import synk
from support.jobs import handlers
from support.supervising import make_client, supervised, wait_until
from synk import JobState

NOOP = ("x", handlers.Noop())
URGENT = synk.InsertOptions(priority=synk.Priority.CRITICAL)
FORMER = "UPDATE synk.job SET scheduled_at = now() - interval '1 hour', state = 'available'"


def is_done(client: synk.Client, job_id: int) -> bool:
    row = client.get(job_id)
    return row is not None and row.state is JobState.COMPLETED


@pytest.mark.parametrize("how", ["committed late", "locked", "made earlier"])
def test_what_lies_before_the_marks_is_run_while_the_queue_never_empties(
    dsn: str, how: str
) -> None:
    with make_client(dsn) as producer, psycopg.connect(dsn) as other:
        if how == "committed late":
            early = producer.insert_tx(other, *NOOP)
        else:
            early = producer.insert(*NOOP, synk.InsertOptions(pending=how == "made earlier"))
            other.execute("SELECT FROM synk.job WHERE id = %s FOR UPDATE", (early,))
        producer.insert_many([NOOP] * 4_000)
        with supervised(dsn, processes=1) as client:
            wait_until(lambda: client.storage.counts().get(JobState.COMPLETED, 0) > 1_000)
            assert not is_done(producer, early)
            producer.insert_many([NOOP] * 4_000)
            if how == "made earlier":
                other.execute(sql.SQL(FORMER + " WHERE id = %s"), (early,))
            other.commit()

            wait_until(lambda: is_done(producer, early))
            wait_until(lambda: producer.storage.counts() == {JobState.COMPLETED: 8_001})


def test_an_urgent_job_does_not_wait_for_the_end_of_a_drain(dsn: str) -> None:
    with make_client(dsn) as producer:
        producer.insert_many([NOOP] * 60_000)
        with supervised(dsn, processes=1):
            wait_until(lambda: producer.storage.counts().get(JobState.COMPLETED, 0) > 1_000)
            urgent = producer.insert(*NOOP, URGENT)
            wait_until(lambda: is_done(producer, urgent))
            left = producer.storage.counts().get(JobState.AVAILABLE, 0)

    assert left > 0
