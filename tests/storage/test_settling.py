"""Ends that meet: in transactions of either kind, of supervisors and of users."""

from __future__ import annotations

import random
from itertools import count
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from support.crowd import all_at_once
from support.tying import check, complete, ties, value
from synk import JobState
from synk.claim import AckAnswer
from synk.testing.making import OWNER, claim, insert, new_job, outcome_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.claim import ClaimedJob
    from synk.storage.postgres import PostgresStorage

COMMITTED: Final = psycopg.IsolationLevel.READ_COMMITTED
REPEATABLE: Final = psycopg.IsolationLevel.REPEATABLE_READ


def test_a_repeatable_read_that_ends_a_job_misses_no_dependent_inserted_meanwhile(
    dsn: str, connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    """It cannot see the later one, and so must not end the job."""
    parent = insert(storage)
    early = insert(storage, depends_on=(parent,))
    (job,) = claim(storage)
    with psycopg.connect(dsn) as user:
        user.isolation_level = REPEATABLE
        user.execute("SELECT count(*) FROM synk.job")
        late = insert(storage, depends_on=(parent,))

        with pytest.raises(psycopg.errors.SerializationFailure):
            complete(user, job)

        user.rollback()
        complete(user, job)
        user.commit()
    assert {state_of(storage, job_id) for job_id in (early, late)} == {JobState.AVAILABLE}
    check(connection)


def test_of_two_repeatable_reads_that_end_the_last_dependencies_one_lets_the_dependent_go(
    dsn: str, connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    ids = storage.insert([new_job()] * 2)
    child = insert(storage, depends_on=tuple(ids))
    first, second = claim(storage)
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
        for user, job in ((one, first), (other, second)):
            user.isolation_level = REPEATABLE
            user.execute("SELECT count(*) FROM synk.job")
            complete(user, job)
        one.commit()
        with pytest.raises(psycopg.errors.SerializationFailure):
            other.commit()
        complete(other, second)
        other.commit()

    assert state_of(storage, child) is JobState.AVAILABLE
    check(connection)


class Enders:
    """Threads that end jobs at the same time, in orders of their own."""

    def __init__(self, dsn: str, storage: PostgresStorage) -> None:
        self._dsn = dsn
        self._storage = storage
        self._calls: list[Callable[[], None]] = []
        self._seeds = count()

    def supervisor(self, jobs: list[ClaimedJob]) -> None:
        chance = random.Random(next(self._seeds))

        def call() -> None:
            left = jobs
            while left:
                chance.shuffle(left)
                outcomes = [outcome_of(job) for job in left[:15]]
                answers = self._storage.update_job_state(OWNER, outcomes)
                again = [j for j, a in zip(left, answers, strict=False) if a is AckAnswer.LOCKED]
                left = left[15:] + again

        self._calls.append(call)

    def user(self, jobs: list[ClaimedJob], level: psycopg.IsolationLevel) -> None:
        """Three in a transaction, which is repeated if the server asks for that."""

        def call() -> None:
            left = jobs
            with psycopg.connect(self._dsn) as user:
                user.isolation_level = level
                while left:
                    try:
                        for job in left[:3]:
                            complete(user, job)
                        user.commit()
                    except psycopg.errors.SerializationFailure:
                        user.rollback()
                    else:
                        left = left[3:]

        self._calls.append(call)

    def run(self) -> list[Exception]:
        return all_at_once(self._calls)


def test_those_that_end_shared_dependencies_in_any_order_lose_no_release_and_never_deadlock(
    dsn: str, connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    chance = random.Random(7)
    parents = storage.insert([new_job()] * 240)
    for number in [2] * 60 + [12] * 20 + [240]:
        insert(storage, depends_on=tuple(chance.sample(parents, number)), kind="child")
    jobs = claim(storage, 240)
    chance.shuffle(jobs)
    enders = Enders(dsn, storage)
    enders.supervisor(jobs[:90])
    enders.supervisor(jobs[90:180])
    enders.user(jobs[180:210], COMMITTED)
    enders.user(jobs[210:], REPEATABLE)

    problems = enders.run()

    assert problems == []
    assert storage.counts() == {JobState.COMPLETED: 240, JobState.AVAILABLE: 81}
    assert ties(connection) == 0
    check(connection)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert value(connection, deadlocks) == 0
