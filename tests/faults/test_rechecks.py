"""D12 and D25: rows that change between the sight of a statement and its lock."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from support.supervising import DEADLINE_S, wait_until
from synk import JobState
from synk.storage import sql
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OTHER, OWNER, claim, get, insert, new_job, register, status_of

# -- D12 ------------------------------------------------------------------------------------------


def test_d12_no_claim_takes_more_than_its_limit_however_many_claim_at_once(
    storage: PostgresStorage,
) -> None:
    """Synk's sessions have no hash and merge joins: what is left may run its inner part again."""
    ids = storage.insert([new_job() for _ in range(600)])
    register(storage, OWNER)
    taken: list[list[int]] = []
    start = threading.Barrier(4)

    def claim_on(first_seq: int) -> None:
        start.wait()
        seq = first_seq
        while jobs := storage.get_job_available(
            "default", 7, kinds=["kind"], owner=OWNER, claim_seq=seq
        ):
            taken.append([job.id for job in jobs])
            seq += 1

    threads = [threading.Thread(target=claim_on, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)

    assert max(map(len, taken)) == 7
    assert sorted(job_id for batch in taken for job_id in batch) == ids
    assert storage.counts() == {JobState.RUNNING: 600}


@pytest.mark.parametrize("setting", ["enable_material", "enable_memoize", "enable_indexscan"])
def test_d12_no_plan_makes_a_claim_take_more_than_its_limit(
    connection: psycopg.Connection, storage: PostgresStorage, setting: str
) -> None:
    storage.insert([new_job() for _ in range(300)])
    register(storage, OWNER)
    for off in ("enable_hashjoin", "enable_mergejoin", setting):
        connection.execute(f"SET {off} = off".encode())
    statement = storage.statements.claim("default", 5, kinds=["kind"], owner=OWNER, claim_seq=1)

    cursor = connection.execute(statement.text.encode(), statement.parameters)

    assert cursor.rowcount == 5
    assert storage.counts() == {JobState.RUNNING: 5, JobState.AVAILABLE: 295}


def test_d12_a_row_that_moves_while_a_claim_locks_it_is_claimed_once_or_left_to_the_next(
    dsn: str, storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    """Without its SKIP LOCKED: the claim finds the row where it was, and locks where it is then."""
    ids = storage.insert([new_job() for _ in range(3)])
    register(storage, OWNER)
    statement = storage.statements.claim("default", 5, kinds=["kind"], owner=OWNER, claim_seq=1)
    taken: list[int] = []

    def take() -> None:
        with psycopg.connect(dsn, autocommit=True) as own:
            text = statement.text.replace("SKIP LOCKED", "")
            taken.extend(row[0] for row in own.execute(text.encode(), statement.parameters))

    with psycopg.connect(dsn) as other:
        other.execute("UPDATE synk.job SET name = 'moved' WHERE id = %s", (ids[1],))
        thread = threading.Thread(target=take)
        thread.start()
        wait_until(lambda: is_waiting(connection), what="the claim to wait")
        other.commit()
        thread.join(DEADLINE_S)
    taken.extend(job.id for job in claim(storage))

    assert sorted(taken) == ids
    assert {(row.attempt, row.state) for row in storage.get(ids)} == {(1, JobState.RUNNING)}
    assert get(storage, ids[1]).name == "moved"


# -- D25 ------------------------------------------------------------------------------------------

CLAIM_ANEW = """
UPDATE synk.job SET state = 'running', attempt = attempt + 1, owner = %s, claim_seq = 9
WHERE id = %s
"""
WRONG = """
UPDATE synk.job SET state = 'available', owner = NULL, claim_seq = NULL
WHERE id IN (
    SELECT j.id FROM synk.job AS j
    LEFT JOIN synk.client AS c ON c.id = j.owner AND c.stopped_at IS NULL
    WHERE j.state = 'running' AND c.id IS NULL
    FOR UPDATE OF j)
"""
"""How one may write it: what has no living owner is anybody's."""


@pytest.fixture
def lost(storage: PostgresStorage) -> int:
    """A running job of a supervisor that stopped without a word of it."""
    job_id = insert(storage)
    claim(storage)
    storage.report_client(status_of(OWNER, stopped=True))
    register(storage, OTHER)
    assert storage.dead_owners() == [OWNER]
    return job_id


def test_d25_a_rescue_leaves_alone_what_a_living_supervisor_is_getting(
    dsn: str, storage: PostgresStorage, lost: int
) -> None:
    with psycopg.connect(dsn) as other:
        other.execute(CLAIM_ANEW, (OTHER, lost))
        assert storage.rescue([OWNER], 10) == []
    assert storage.rescue([OWNER], 10) == []

    row = get(storage, lost)
    assert (row.state, row.attempt, row.lost) == (JobState.RUNNING, 2, 0)
    assert [job.claim_seq for job in storage.running(OTHER)] == [9]


@pytest.mark.parametrize("form", ["ours", "wrong"])
def test_d25_a_rescue_that_had_to_wait_looks_at_the_row_as_it_is_now(
    dsn: str, storage: PostgresStorage, connection: psycopg.Connection, lost: int, form: str
) -> None:
    """Ours without its SKIP LOCKED, and one that takes a living supervisor's job: the test sees."""

    def rescue() -> None:
        with psycopg.connect(dsn, autocommit=True) as rescuer:
            if form == "wrong":
                rescuer.execute(WRONG)
                return
            text = sql.statement("rescue").replace("SKIP LOCKED", "")
            rescuer.execute(text.encode(), {"dead": [OWNER], "limit": 10, "lost_max": 3})

    with psycopg.connect(dsn) as other:
        other.execute(CLAIM_ANEW, (OTHER, lost))
        thread = threading.Thread(target=rescue)
        thread.start()
        wait_until(lambda: is_waiting(connection), what="the rescue to wait")
        other.commit()
        thread.join(DEADLINE_S)

    is_left_alone = get(storage, lost).state is JobState.RUNNING
    assert is_left_alone == (form == "ours")


def is_waiting(connection: psycopg.Connection) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database())"
    ).fetchone()
    return row == (True,)


@pytest.mark.parametrize("late", ["beats", "stops"])
def test_d25_a_verdict_looks_at_the_lease_as_it_is_now(
    dsn: str, storage: PostgresStorage, late: str, connection: psycopg.Connection
) -> None:
    """What a supervisor does while its verdict waits for the lock comes first."""
    register(storage, OWNER)
    connection.execute("UPDATE synk.client SET lease_until = now() - interval '1 s'")
    suspects = storage.leases()
    change: dict[str, Callable[[psycopg.Connection], object]] = {
        "beats": lambda own: own.execute(
            "UPDATE synk.client SET beat = beat + 1, lease_until = now() + ttl"
        ),
        "stops": lambda own: own.execute("UPDATE synk.client SET stopped_at = now()"),
    }
    dead: list[object] = []
    with psycopg.connect(dsn) as own:
        change[late](own)
        thread = threading.Thread(target=lambda: dead.append(storage.declare_dead(suspects)))
        thread.start()
        wait_until(lambda: is_waiting(connection), what="the verdict to wait")
        own.commit()
        thread.join(DEADLINE_S)

    assert dead == [[]]
