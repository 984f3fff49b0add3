"""D1: the connection breaks around a statement, and nobody can tell whether it was done."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import psycopg
import psycopg_pool
import pytest

import synk
from support.jobs import handlers
from support.proxy import Proxy
from support.supervising import wait_until
from synk import Change, JobState
from synk.claim import AckAnswer
from synk.storage.bounds import is_alive
from synk.storage.inserting import INSERT_JOBS
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OWNER, claim, insert, job_in, outcome_of, register, state_of

Cut: TypeAlias = Literal["question", "answer"]
MANY = INSERT_JOBS + 1
KEYED = synk.InsertOptions(idempotency_key="the key")

at_both_cuts = pytest.mark.parametrize("at", ["question", "answer"])


def cut(proxy: Proxy, statement: str, at: Cut, call: Callable[[], Any]) -> Any:
    """Breaks the connection around the statement that *call* runs; returns what came of it."""
    trap = proxy.trap(statement, at=at)
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(call())
        except Exception as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    trap.wait()
    trap.cut()
    thread.join()
    return came[0]


def awaited(proxy: Proxy, options: synk.InsertOptions | None, count: int) -> Any:
    """Inserts as an asyncio producer does."""

    async def use() -> Any:
        async with synk.AsyncClient(storage=PostgresStorage(proxy.dsn)) as client:
            if count == 1:
                return await client.insert("x", handlers.Noop(), options)
            return await client.insert_many([("x", handlers.Noop())] * count)

    return asyncio.run(use())


@at_both_cuts
@pytest.mark.parametrize("waiting", ["blocking", "awaited"])
def test_d1_an_insert_whose_answer_is_lost_is_told_as_unknown_and_not_repeated(
    proxy: Proxy, through: PostgresStorage, storage: PostgresStorage, at: Cut, waiting: str
) -> None:
    def call() -> object:
        if waiting == "awaited":
            return awaited(proxy, None, 1)
        return synk.Client(storage=through).insert("x", handlers.Noop())

    error = cut(proxy, "insert", at, call)

    assert isinstance(error, synk.OutcomeUnknown)
    assert storage.counts() == ({} if at == "question" else {JobState.AVAILABLE: 1})


@at_both_cuts
@pytest.mark.parametrize(("count", "statement"), [(3, "insert_many"), (MANY, "COMMIT")])
@pytest.mark.parametrize("waiting", ["blocking", "awaited"])
def test_d1_many_jobs_are_stored_or_not_as_one(
    proxy: Proxy,
    through: PostgresStorage,
    storage: PostgresStorage,
    at: Cut,
    count: int,
    statement: str,
    waiting: str,
) -> None:
    """What fits into one statement needs no transaction around it; the rest has one."""

    def call() -> object:
        if waiting == "awaited":
            return awaited(proxy, None, count)
        return synk.Client(storage=through).insert_many([("x", handlers.Noop())] * count)

    error = cut(proxy, statement, at, call)

    assert isinstance(error, synk.OutcomeUnknown)
    assert storage.counts() == ({} if at == "question" else {JobState.AVAILABLE: count})


@at_both_cuts
@pytest.mark.parametrize("count", [1, 3])
def test_d1_a_pool_without_autocommit_loses_no_word_of_its_commit(
    proxy: Proxy, storage: PostgresStorage, at: Cut, count: int
) -> None:
    with psycopg_pool.ConnectionPool(proxy.dsn, min_size=1) as pool:
        client = synk.Client(storage=PostgresStorage(pool))
        error = cut(
            proxy, "COMMIT", at, lambda: client.insert_many([("x", handlers.Noop())] * count)
        )

    assert isinstance(error, synk.OutcomeUnknown)
    assert storage.counts() == ({} if at == "question" else {JobState.AVAILABLE: count})


@at_both_cuts
@pytest.mark.parametrize("waiting", ["blocking", "awaited"])
def test_d1_with_a_key_the_insert_is_repeated_and_one_job_exists(
    proxy: Proxy, through: PostgresStorage, storage: PostgresStorage, at: Cut, waiting: str
) -> None:
    def call() -> object:
        if waiting == "awaited":
            return awaited(proxy, KEYED, 1)
        return synk.Client(storage=through).insert("x", handlers.Noop(), KEYED)

    job_id = cut(proxy, "insert", at, call)

    assert [row.id for row in storage.get([job_id])] == [job_id]
    assert storage.counts() == {JobState.AVAILABLE: 1}


@at_both_cuts
def test_d1_of_many_with_keys_each_exists_once(
    proxy: Proxy, through: PostgresStorage, storage: PostgresStorage, at: Cut
) -> None:
    keys = [str(number) for number in range(MANY)]
    specs = [("x", handlers.Noop(), synk.InsertOptions(idempotency_key=key)) for key in keys]

    ids = cut(proxy, "COMMIT", at, lambda: synk.Client(storage=through).insert_many(specs))

    assert [row.idempotency_key for row in storage.get(ids)] == keys
    assert storage.counts() == {JobState.AVAILABLE: MANY}


@at_both_cuts
def test_d1_a_unique_job_is_stored_once_where_an_insert_passes_over_others(
    proxy: Proxy, through: PostgresStorage, storage: PostgresStorage, at: Cut
) -> None:
    client = synk.Client(storage=through)
    options = synk.InsertOptions(unique=synk.Unique(by=()))

    job_id = cut(proxy, "insert_unique", at, lambda: client.insert("x", handlers.Noop(), options))

    assert job_id.existed == (at == "answer")
    assert [row.id for row in storage.get([job_id])] == [job_id]
    assert storage.counts() == {JobState.AVAILABLE: 1}


def test_d1_an_insert_that_replaces_is_not_repeated_which_might_undo_a_later_one(
    proxy: Proxy, through: PostgresStorage
) -> None:
    client = synk.Client(storage=through)
    options = synk.InsertOptions(unique=synk.Unique(by=(), on_conflict="replace"))

    came = cut(
        proxy, "insert_unique", "answer", lambda: client.insert("x", handlers.Noop(), options)
    )

    assert isinstance(came, synk.OutcomeUnknown)


def test_d1_an_insert_that_never_gets_through_is_given_up_with_the_same_error(
    proxy: Proxy, through: PostgresStorage, storage: PostgresStorage
) -> None:
    client = synk.Client(storage=through)
    traps = [proxy.trap("insert", at="question") for _ in range(20)]
    for trap in traps:
        trap.cut()

    with pytest.raises(synk.OutcomeUnknown):
        client.insert("x", handlers.Noop(), KEYED)

    assert storage.counts() == {}


def test_d1_in_the_callers_transaction_the_callers_commit_decides(
    proxy: Proxy, through: PostgresStorage, storage: PostgresStorage
) -> None:
    client = synk.Client(storage=through)
    with psycopg.connect(proxy.dsn) as connection:
        client.insert_tx(connection, "x", handlers.Noop())
        error = cut(proxy, "COMMIT", "answer", connection.commit)

    assert isinstance(error, psycopg.OperationalError)
    assert storage.counts() == {JobState.AVAILABLE: 1}


@at_both_cuts
def test_d1_what_a_lost_claim_took_can_be_asked_for(
    proxy: Proxy, through: PostgresStorage, storage: PostgresStorage, at: Cut
) -> None:
    ids = [insert(storage) for _ in range(3)]

    error = cut(proxy, "claim", at, lambda: claim(through, seq=5))

    assert isinstance(error, synk.StorageUnavailable)
    taken = [(job.id, job.attempt, job.claim_seq) for job in through.running(OWNER)]
    assert taken == ([] if at == "question" else [(job_id, 1, 5) for job_id in ids])


@at_both_cuts
def test_d1_a_lost_acknowledgement_can_be_repeated(
    proxy: Proxy, through: PostgresStorage, storage: PostgresStorage, at: Cut
) -> None:
    for _ in range(3):
        insert(storage)
    outcomes = [outcome_of(job) for job in claim(storage)]

    error = cut(proxy, "ack", at, lambda: through.update_job_state(OWNER, outcomes))
    answers = through.update_job_state(OWNER, outcomes)

    assert isinstance(error, synk.StorageUnavailable)
    expected = AckAnswer.APPLIED if at == "question" else AckAnswer.DUPLICATE
    assert answers == [expected] * 3
    assert storage.counts() == {JobState.COMPLETED: 3}


@at_both_cuts
def test_d1_a_lost_beat_leaves_the_lease_to_the_next_one(
    proxy: Proxy, through: PostgresStorage, storage: PostgresStorage, at: Cut
) -> None:
    register(storage, OWNER)

    def beat() -> object:
        with through.heartbeat(OWNER) as heartbeat:
            return heartbeat.beat()

    error = cut(proxy, "heartbeat", at, beat)

    assert isinstance(error, synk.StorageUnavailable)
    assert beat() is not None
    (lease,) = storage.leases()
    assert lease.beat == (1 if at == "question" else 2)


@at_both_cuts
@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("cancel", JobState.AVAILABLE, JobState.CANCELLED),
        ("retry", JobState.CANCELLED, JobState.AVAILABLE),
        ("ready", JobState.PENDING, JobState.AVAILABLE),
        ("delete", JobState.AVAILABLE, None),
    ],
)
def test_d1_a_lost_change_can_be_repeated_and_says_what_it_found(
    proxy: Proxy,
    through: PostgresStorage,
    storage: PostgresStorage,
    at: Cut,
    verb: str,
    before: JobState,
    after: JobState | None,
) -> None:
    job_id = job_in(storage, before)

    error = cut(proxy, verb, at, lambda: getattr(through, verb)(job_id))
    change = getattr(through, verb)(job_id)

    assert isinstance(error, synk.StorageUnavailable)
    if at == "question":
        assert change is Change.APPLIED
    else:
        assert change is (Change.GONE if after is None else Change.REFUSED)
    assert (state_of(storage, job_id) if after else None) == after


def test_d1_a_connection_that_was_lost_while_nobody_used_it_is_not_used(
    proxy: Proxy, through: PostgresStorage, storage: PostgresStorage
) -> None:
    """Nothing was sent, so nothing is unknown: the producer notices nothing."""
    client = synk.Client(storage=through)
    client.insert("x", handlers.Noop())

    proxy.reset()
    pool = through.connector._pool
    assert isinstance(pool, psycopg_pool.ConnectionPool)
    with contextlib.ExitStack() as lent:
        size = pool.get_stats()["pool_size"]
        idle = [lent.enter_context(pool.connection()) for _ in range(size)]
        wait_until(lambda: not any(map(is_alive, idle)), what="the news of the reset to arrive")
    client.insert("y", handlers.Noop())

    assert storage.counts() == {JobState.AVAILABLE: 2}
