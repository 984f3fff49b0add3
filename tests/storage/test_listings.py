"""What `synk jobs` asks of a large table: it reads little, and says what it did not look at."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from support.servers import Server
from synk.row import CancelReason, JobState
from synk.storage import statements
from synk.storage.postgres import PostgresStorage
from synk.storage.sessions import connect_options

ROWS = 200_000
SEARCHED = 2_000
OLD = timedelta(days=1)

# The rows of a kind that is over long ago come first, then a hundred that run, some that wait, and
# then many others.
LOAD = f"""
INSERT INTO synk.job (kind, name, state, attempt, owner, claim_seq, created_at, scheduled_at,
                      finalized_at, cancel_reason, held, unmet, depends_on)
SELECT CASE WHEN n <= 100 THEN 'rare' ELSE 'usual' END, 'x', state,
       CASE WHEN state = 'running' THEN 1 ELSE 0 END,
       CASE WHEN state = 'running' THEN '{uuid.UUID(int=7)}'::uuid END,
       CASE WHEN state = 'running' THEN 1 END,
       at, at,
       CASE WHEN state IN ('completed', 'cancelled')
            THEN CASE n WHEN 1 THEN now() ELSE at END END,
       CASE WHEN state = 'cancelled'
            THEN CASE WHEN n <= 100 THEN 'failed' ELSE 'dependency' END::synk.cancel_reason END,
       n BETWEEN 216 AND 220, CASE WHEN n BETWEEN 211 AND 215 THEN 1 ELSE 0 END,
       CASE WHEN n BETWEEN 211 AND 215 THEN '{{101}}' ELSE '{{}}' END::bigint[]
FROM (
    SELECT n, now() - ({ROWS} - n) * interval '1 s' - interval '1 min' AS at,
           CAST(CASE WHEN n <= 100 THEN 'cancelled' WHEN n <= 200 THEN 'running'
                     WHEN n <= 210 THEN 'scheduled' WHEN n <= 220 THEN 'pending'
                     WHEN n % 10 < 7 THEN 'completed' WHEN n % 10 < 9 THEN 'cancelled'
                     ELSE 'available' END AS synk.job_state) AS state
    FROM generate_series(1, {ROWS}) AS n
) AS numbered;
INSERT INTO synk.tie (dependency, dependent) SELECT 101, j.id FROM synk.job AS j WHERE j.unmet > 0
"""


@pytest.fixture(scope="module")
def dsn(server: Server) -> Iterator[str]:
    with server.database() as dsn:
        with psycopg.connect(dsn) as loader:
            loader.execute("SET session_replication_role = replica")
            loader.execute(LOAD.encode())
            loader.execute("ANALYZE synk.job")
        yield dsn


@pytest.fixture
def listing(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStorage]:
    monkeypatch.setattr(statements, "JOBS_SEARCHED", SEARCHED)
    storage = PostgresStorage(dsn)
    yield storage
    storage.close()


LISTINGS: dict[str, dict[str, Any]] = {
    "the newest": {},
    "of a kind": {"kind": "rare"},
    "of a queue": {"queue": "none"},
    "completed, of a kind": {"state": JobState.COMPLETED, "kind": "rare"},
    "for a reason": {"reason": CancelReason.POISON},
    "for a reason, of a kind": {"reason": CancelReason.FAILED, "kind": "rare"},
    "since": {"since": timedelta(minutes=5)},
    "since, of a kind": {"since": timedelta(minutes=5), "kind": "rare"},
    "for a reason, since": {"since": timedelta(minutes=5), "reason": CancelReason.FAILED},
    "completed since": {"since": timedelta(minutes=5), "state": JobState.COMPLETED},
    "running": {"state": JobState.RUNNING},
    "running, of a kind": {"state": JobState.RUNNING, "kind": "rare"},
    "available": {"state": JobState.AVAILABLE},
    "available, of a kind": {"state": JobState.AVAILABLE, "kind": "rare"},
    "scheduled": {"state": JobState.SCHEDULED},
    "pending": {"state": JobState.PENDING},
}


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_reads_few_pages_whatever_is_looked_for(
    dsn: str, listing: PostgresStorage, name: str, mode: str
) -> None:
    filters: dict[str, Any] = dict.fromkeys(("state", "queue", "kind", "reason", "since"))
    statement = listing.statements.jobs(**filters | LISTINGS[name], limit=50)

    with psycopg.connect(dsn, **connect_options(dsn)) as connection:
        connection.execute(f"SET plan_cache_mode = force_{mode}_plan".encode())
        text = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement.text.encode()
        row = connection.execute(text, statement.parameters, prepare=True).fetchone()

    assert row is not None
    plan = row[0][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= SEARCHED // 3
    assert ("Seq Scan", "job") not in ways(plan)


def ways(plan: dict[str, Any]) -> set[tuple[str, str]]:
    """The ways in which a plan reads tables."""
    found = {(plan["Node Type"], plan.get("Relation Name", ""))}
    return found.union(*(ways(part) for part in plan.get("Plans", [])))


def test_a_search_that_gave_up_says_so(listing: PostgresStorage) -> None:
    for wanted in (
        {"kind": "rare", "limit": 500},
        {"reason": CancelReason.FAILED, "limit": 500},
        {"state": JobState.CANCELLED, "kind": "rare"},
        {"since": 9 * OLD, "kind": "rare", "limit": 500},
        {"since": 9 * OLD, "reason": CancelReason.FAILED},
        {"state": JobState.AVAILABLE, "kind": "rare"},
    ):
        found = listing.jobs(**wanted)
        assert (len(found) <= 1, found.searched) == (True, SEARCHED), wanted


def test_a_search_that_looked_at_all_that_may_match_does_not(listing: PostgresStorage) -> None:
    (thirtieth,) = listing.get([ROWS - 30])
    for wanted, count in (
        ({}, 50),
        ({"state": JobState.RUNNING, "limit": 500}, 100),
        ({"state": JobState.RUNNING, "since": 9 * OLD, "limit": 500}, 100),
        ({"state": JobState.AVAILABLE, "since": thirtieth.created_at}, 3),
        ({"state": JobState.RUNNING, "kind": "rare"}, 0),
        # One was inserted long ago, and ended just now.
        ({"since": thirtieth.created_at, "limit": 500}, 32),
        ({"since": thirtieth.created_at, "kind": "rare"}, 1),
    ):
        found = listing.jobs(**wanted)
        assert (len(found), found.searched) == (count, None), wanted
        assert [row.id for row in found] == sorted((row.id for row in found), reverse=True)


def test_jobs_that_wait_are_found_however_old_they_are(listing: PostgresStorage) -> None:
    scheduled = listing.jobs(state=JobState.SCHEDULED)
    pending = listing.jobs(state=JobState.PENDING)

    assert [row.id for row in scheduled] == [*range(210, 200, -1)]
    assert scheduled.searched is None
    assert [row.id for row in pending] == [*range(220, 210, -1)]
    assert pending.searched is None
