"""Unique jobs: of one scope there is one at a time, whoever inserts it, and however that ends."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

import synk
from support.commands import run
from support.supervising import wait_until
from synk.row import JobState
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OWNER, PAST, acknowledge, claim, fail, new_job, register, release

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_SCOPE = "SELECT unique_key IS NOT NULL FROM synk.job WHERE id = %s"
TWICE = """
SELECT count(*) FROM (
    SELECT FROM synk.job
    WHERE state IN ('available', 'scheduled', 'pending') AND attempt = 0
    GROUP BY args ->> 'tenant' HAVING count(*) > 1) AS twice
"""


@dataclass
class Sync(synk.JobArgs, kind="kind"):
    tenant: str = "t"
    n: int = 0
    more: dict[str, Any] = field(default_factory=dict)


def unique(*by: str, **changed: Any) -> synk.InsertOptions:
    options = {name: changed.pop(name) for name in list(changed) if name not in UNIQUE}
    return synk.InsertOptions(unique=synk.Unique(by=by or ("args.tenant",), **changed), **options)


UNIQUE = ("until", "period", "on_conflict")
SKIP = unique()
REPLACE = unique(on_conflict="replace")
RAISE = unique(on_conflict="raise")
FINISHED = unique(until="finished")


@pytest.fixture
def client(storage: PostgresStorage) -> Iterator[synk.Client]:
    with synk.Client(storage=storage) as client:
        yield client


def ids_of(connection: psycopg.Connection) -> list[int]:
    return [id for (id,) in connection.execute("SELECT id FROM synk.job ORDER BY id")]


def args_of(row: synk.JobRow) -> dict[str, Any]:
    assert isinstance(row.args, dict)
    return row.args


def scope_of(client: synk.Client, job_id: int) -> synk.UniqueScope:
    row = client.get(job_id)
    assert row is not None
    assert row.unique is not None
    return row.unique


# -- what an insert does that meets another job ---------------------------------------------------


def test_the_id_of_the_job_that_is_there_comes_back_and_that_it_was_there(
    client: synk.Client, connection: psycopg.Connection
) -> None:
    first, second, other = (
        client.insert("sync", Sync(tenant, n), SKIP) for tenant, n in (("t", 1), ("t", 2), ("u", 3))
    )

    assert (second, first.existed, second.existed, other.existed) == (first, False, True, False)
    assert ids_of(connection) == [first, other]
    assert type(first) is synk.Inserted
    assert isinstance(first, int)


def test_a_job_that_waits_is_replaced_by_what_comes_later(client: synk.Client) -> None:
    later = dt.datetime(2101, 1, 1, tzinfo=dt.UTC)
    first = client.insert("sync", Sync(n=1), unique(scheduled_at=PAST))

    second = client.insert(
        "other name",
        Sync(n=2),
        unique(on_conflict="replace", scheduled_at=later, priority=synk.Priority.HIGH),
    )

    row = client.get(first)
    assert (second, second.existed) == (first, True)
    assert row
    assert (row.name, row.args, row.priority, row.scheduled_at, row.state) == (
        "sync",
        {"tenant": "t", "n": 2, "more": {}},
        synk.Priority.HIGH,
        later,
        JobState.SCHEDULED,
    )
    client.insert("sync", Sync(n=3), REPLACE)
    assert (row := client.get(first))
    assert row.state is JobState.AVAILABLE


def test_new_data_never_ends_up_in_a_job_that_runs(
    client: synk.Client, storage: PostgresStorage
) -> None:
    first = client.insert("sync", Sync(n=1), REPLACE)
    claim(storage)

    second = client.insert("sync", Sync(n=2), REPLACE)

    assert second != first
    assert not second.existed
    assert (row := client.get(first))
    assert args_of(row)["n"] == 1


def test_what_runs_and_keeps_its_scope_until_it_is_finished_is_not_replaced_in_silence(
    client: synk.Client, storage: PostgresStorage
) -> None:
    first = client.insert("sync", Sync(n=1), FINISHED)
    claim(storage)

    with pytest.raises(synk.NotUnique) as caught:
        client.insert("sync", Sync(n=2), REPLACE)

    assert caught.value.job_id == first


def test_an_insert_that_raises_names_the_other_and_leaves_the_transaction_as_it_was(
    client: synk.Client, connection: psycopg.Connection
) -> None:
    first = client.insert("sync", Sync(), SKIP)

    with connection.transaction():
        kept = client.insert_tx(connection, "sync", Sync("u"), RAISE)
        with pytest.raises(synk.NotUnique, match=f"job {first} is in this scope") as caught:
            client.insert_tx(connection, "sync", Sync(), RAISE)
        with pytest.raises(synk.NotUnique):
            client.insert_many(
                [("a", Sync("v"), RAISE), ("b", Sync(), RAISE)], connection=connection
            )

    assert (caught.value.job_id, caught.value.field) == (first, "unique")
    assert ids_of(connection) == [first, kept]


def test_of_two_in_one_call_the_second_meets_the_first(
    client: synk.Client, connection: psycopg.Connection
) -> None:
    jobs = [("a", Sync("z", 1), SKIP), ("b", Sync("plain"), None), ("c", Sync("z", 2), SKIP)]
    jobs += [("d", Sync("a", 1), REPLACE), ("e", Sync("a", 2), REPLACE)]

    found = client.insert_many([job if job[2] else job[:2] for job in jobs])

    assert found[0] == found[2]
    assert found[3] == found[4]
    assert [getattr(each, "existed", None) for each in found] == [False, False, True, False, True]
    rows = client.storage.get(found)
    assert {row.name: args_of(row)["n"] for row in rows} == {"a": 1, "b": 0, "d": 2}
    with pytest.raises(synk.NotUnique):
        client.insert_many([("f", Sync("new"), RAISE), ("g", Sync("new"), RAISE)])
    assert len(ids_of(connection)) == 3


def test_thousands_in_one_call_keep_their_places(client: synk.Client) -> None:
    tenants = [f"t{n % 4000}" for n in range(6000)]
    before = client.insert_many([("x", Sync(tenant), SKIP) for tenant in tenants[:1000]])

    found = client.insert_many([("x", Sync(tenant), SKIP) for tenant in tenants])

    assert found[:1000] == before
    assert [getattr(each, "existed", None) for each in found] == [
        n < 1000 or n >= 4000 for n in range(6000)
    ]
    rows = {row.id: row for row in client.storage.get(found)}
    assert [args_of(rows[id])["tenant"] for id in found] == tenants


def test_asyncio_inserts_the_same(storage: PostgresStorage) -> None:
    async def insert() -> list[tuple[int, bool | None]]:
        client = synk.AsyncClient(storage=storage)
        one = await client.insert("a", Sync(n=1), SKIP)
        two = await client.insert("a", Sync(n=2), REPLACE)
        many = await client.insert_many([("a", Sync(), SKIP), ("a", Sync("u"), SKIP)])
        with pytest.raises(synk.NotUnique):
            await client.insert("a", Sync(), RAISE)
        async with await psycopg.AsyncConnection.connect(storage.conninfo()) as own:
            three = await client.insert_tx(own, "a", Sync("v"), SKIP)
        await client.close()
        found = (one, two, *many, three)
        return [(each, getattr(each, "existed", None)) for each in found]

    one, two, third, fourth, fifth = asyncio.run(insert())

    assert (one[1], two, third, fourth[1], fifth[1]) == (
        False, (one[0], True), (one[0], True), False, False,
    )  # fmt: skip


# -- what is the same -----------------------------------------------------------------------------


def test_kind_and_what_was_chosen_are_what_counts(client: synk.Client) -> None:
    @dataclass
    class Other(synk.JobArgs, kind="other"):
        tenant: str = "t"

    nested = Sync(more={"a": {"b": 1, "c": 2}})
    alike = [
        client.insert("a", Sync(), SKIP),
        client.insert("b", Sync(n=5), unique(queue="elsewhere", max_retries=1)),
    ]
    apart = [
        client.insert("x", args, options)
        for args, options in (
            (Sync("u"), SKIP),
            (Other(), SKIP),
            (Sync(), unique("args.tenant", "queue")),
            (Sync(), unique("args.tenant", "queue", queue="elsewhere")),
            (Sync(n=5), unique("args")),
            (Sync(n=6), unique("args")),
            (nested, unique("args.more.a")),
        )
    ]

    assert alike[0] == alike[1]
    assert not any(each.existed for each in apart)
    again = client.insert("x", Sync(more={"a": {"c": 2, "b": 1}}), unique("args.more.a"))
    assert again == apart[-1]


def test_nothing_chosen_is_the_kind_alone(client: synk.Client) -> None:
    options = synk.InsertOptions(unique=synk.Unique(by=()))

    assert client.insert("a", Sync("t"), options) == client.insert("b", Sync("u"), options)


def test_a_period_is_that_of_the_time_for_which_a_job_is_scheduled(client: synk.Client) -> None:
    """And not of now, as riverqueue/river had it."""
    hour = dt.timedelta(hours=1)
    noon = dt.datetime(2100, 1, 1, 12, tzinfo=dt.UTC)
    times = [noon, noon + hour / 2, noon + hour - dt.timedelta(microseconds=1), noon + hour]
    times += [
        dt.datetime(1969, 12, 31, 23, 59, tzinfo=dt.UTC),
        dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    ]

    ids = [client.insert("a", Sync(), unique(period=hour, scheduled_at=at)) for at in times]

    assert [each.existed for each in ids] == [False, True, True, False, False, False]
    assert scope_of(client, ids[0]) == synk.UniqueScope(
        by=("args.tenant",), until="started", period=hour, begins=noon, job_id=ids[0]
    )
    now = client.insert("a", Sync(), unique(period=hour))
    assert client.insert("a", Sync(), unique(period=hour)) in (now, now + 1)  # the hour may turn


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | FLOATS | TEXT
KEYS = st.text('abé"\\ ', max_size=3)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(TEXT, JSON)
def test_the_database_chooses_of_a_row_what_the_client_chose(
    client: synk.Client, connection: psycopg.Connection, tenant: str, value: Any
) -> None:
    options = unique("args.tenant", "args.more.a", "queue", "args", period=dt.timedelta(days=1))

    job_id = client.insert("x", Sync(tenant, 1, {"a": value}), options)

    assert connection.execute(
        "SELECT unique_key = synk.unique_key(kind, queue, args, unique_scope) FROM synk.job"
        " WHERE id = %s", (job_id,),
    ).fetchone() == (True,)  # fmt: skip


def test_whoever_writes_a_scope_into_a_row_meets_the_clients_jobs(
    client: synk.Client, connection: psycopg.Connection
) -> None:
    """As psql and the Go producer do: the table computes the key."""
    insert = """
        INSERT INTO synk.job (kind, name, args, unique_scope)
        VALUES ('kind', 'by hand', %s, '{"by": ["args.tenant", "queue"]}')
        ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING RETURNING id
    """
    first = client.insert("a", Sync(), unique("queue", "args.tenant"))

    assert connection.execute(insert, ['{"n": 7, "tenant": "t"}']).fetchone() is None
    row = connection.execute(insert, ['{"tenant": "u"}']).fetchone()
    assert row
    assert client.insert("a", Sync("u"), unique("args.tenant", "queue")) == row[0]
    assert scope_of(client, row[0]).until == "started"
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(
            insert.replace("ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING", ""),
            ['{"tenant": "t"}'],
        )
    assert client.insert("a", Sync("t"), unique("args.tenant", "queue")) == first


@pytest.mark.parametrize(
    "scope",
    [
        "7", "{}", '{"by": "args"}', '{"by": ["tenant"]}', '{"by": [null]}',
        '{"by": [], "until": "x"}',
        '{"by": [], "period": "1h"}', '{"by": [], "period": 0}', '{"by": [], "unless": "started"}',
        '{"by": ["args."]}',
    ],
)  # fmt: skip
def test_a_scope_that_nobody_can_read_is_refused_by_the_table(
    connection: psycopg.Connection, scope: str
) -> None:
    insert = "INSERT INTO synk.job (kind, name, unique_scope) VALUES ('k', 'n', %s)"
    with pytest.raises(psycopg.errors.CheckViolation, match="unique_scope"):
        connection.execute(insert, [scope])
    with pytest.raises(psycopg.errors.CheckViolation, match="unique_scope"):
        connection.execute("INSERT INTO synk.job (kind, name, unique_key) VALUES ('k', 'n', 'x')")


# -- how long -------------------------------------------------------------------------------------


def test_a_job_leaves_its_scope_when_it_is_claimed_and_never_takes_it_again(
    client: synk.Client, storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    """Not by a failure with tries left, not by a release, not by a rescue."""
    register(storage, OWNER)
    for end in (
        lambda job: fail(storage, job, retry_in_s=0),
        lambda job: release(storage, job),
        lambda _: (
            connection.execute("UPDATE synk.client SET dead_at = now()")
            and storage.rescue([OWNER], 10)
        ),
    ):
        first = client.insert("a", Sync(), SKIP)
        (job,) = claim(storage)
        second = client.insert("a", Sync(), SKIP)
        assert second != first
        assert not second.existed

        end(job)
        storage.stage(10)

        assert [connection.execute(IN_SCOPE, [id]).fetchone() for id in (first, second)] == [
            (False,), (True,),
        ]  # fmt: skip
        connection.execute("DELETE FROM synk.job")


def test_until_it_is_finished_a_job_keeps_others_out_whatever_becomes_of_its_attempts(
    client: synk.Client, storage: PostgresStorage
) -> None:
    first = client.insert("a", Sync(), FINISHED)
    (job,) = claim(storage)
    assert client.insert("a", Sync(), FINISHED) == first
    fail(storage, job, retry_in_s=0)
    assert client.insert("a", Sync(), FINISHED) == first
    storage.stage(10)
    (job,) = claim(storage)
    release(storage, job)
    assert client.insert("a", Sync(), SKIP) == first
    (job,) = claim(storage)

    acknowledge(storage, job)

    assert client.insert("a", Sync(), FINISHED) != first


def test_a_job_that_is_cancelled_or_deleted_keeps_nobody_out(client: synk.Client) -> None:
    for end in (client.cancel, client.delete):
        for options in (SKIP, FINISHED, unique(pending=True)):
            first = client.insert("a", Sync(), options)
            assert client.insert("a", Sync(), options) == first
            end(first)
            assert not client.insert("a", Sync("u"), options).existed
            second = client.insert("a", Sync(), options)
            assert not second.existed
            for each in client.storage.jobs(state=None, queue=None, kind=None, limit=9):
                client.delete(each.id)


def test_what_is_cancelled_with_its_dependency_leaves_its_scope(client: synk.Client) -> None:
    needed = client.insert("needed", Sync("x"))
    first = client.insert("a", Sync(), unique(depends_on=(needed,)))
    assert client.insert("a", Sync(), SKIP) == first

    client.cancel(needed)

    assert client.insert("a", Sync(), SKIP) != first


# -- retries --------------------------------------------------------------------------------------


def test_a_retry_is_refused_while_another_is_in_the_scope_and_says_which(
    client: synk.Client, storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    """And with no error that nobody understands, as riverqueue/riverui gave."""
    first = client.insert("a", Sync(), SKIP)
    acknowledge(storage, claim(storage)[0])
    second = client.insert("a", Sync(), SKIP)

    assert client.retry(first) is synk.Change.NOT_UNIQUE

    assert scope_of(client, first).job_id == second
    with pytest.raises(psycopg.Error, match=f"job {second} is in its unique scope"):
        connection.execute("UPDATE synk.job SET state = 'available' WHERE id = %s", [first])
    client.cancel(second)
    assert client.retry(first) is synk.Change.APPLIED
    assert scope_of(client, first).job_id == first
    assert client.insert("a", Sync(), SKIP) == first
    assert client.retry(second) is synk.Change.NOT_UNIQUE


def test_a_retry_that_meets_an_insert_under_way_waits_for_it_and_is_refused(
    client: synk.Client, storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    first = client.insert("a", Sync(), SKIP)
    client.cancel(first)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(storage.conninfo()) as own:
        second = client.insert_tx(own, "a", Sync(), SKIP)
        retried = pool.submit(client.retry, first)
        wait_until(lambda: waits(connection))
        own.commit()
        assert retried.result(30) is synk.Change.NOT_UNIQUE
    assert scope_of(client, first).job_id == second


def waits(connection: psycopg.Connection) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
    return connection.execute(query).fetchone() == (True,)


def test_a_thousand_retries_and_rescues_of_unique_jobs_are_no_error(
    client: synk.Client, storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    register(storage, OWNER)
    tenants = [f"t{n}" for n in range(250)]
    answers: set[synk.Change] = set()
    for options in (SKIP, FINISHED):
        for _ in range(2):
            client.insert_many([("a", Sync(tenant), options) for tenant in tenants])
            jobs = claim(storage, 1000)
            client.insert_many([("a", Sync(tenant), options) for tenant in tenants[::2]])
            for number, job in enumerate(jobs):
                if number % 3 == 0:
                    fail(storage, job, retry_in_s=0)
                elif number % 3 == 1:
                    fail(
                        storage,
                        job,
                        state=JobState.CANCELLED,
                        cancel_reason=synk.CancelReason.FAILED,
                    )
            storage.rescue([OWNER], 1000)
            storage.stage(1000)
            answers |= {client.retry(job.id) for job in jobs}
            assert connection.execute(TWICE).fetchone() == (0,)

    assert answers == {synk.Change.APPLIED, synk.Change.REFUSED, synk.Change.NOT_UNIQUE}
    assert storage.jobs(state=None, queue=None, kind=None, limit=1)


# -- who wins, and what becomes of the others -----------------------------------------------------


def test_where_the_winner_rolls_back_a_loser_inserts(
    client: synk.Client, storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    """Who trusts the winner while that can still roll back loses the job (oban-bg/oban)."""
    for ends in ("rollback", "commit"):
        with ThreadPoolExecutor(4) as pool, psycopg.connect(storage.conninfo()) as winner:
            first = client.insert_tx(winner, "a", Sync(ends), SKIP)
            losers = [pool.submit(client.insert, "a", Sync(ends, n), SKIP) for n in range(4)]
            wait_until(lambda: waits(connection))
            assert not any(loser.done() for loser in losers)
            getattr(winner, ends)()
            found = [loser.result(30) for loser in losers]

        assert len(set(found)) == 1
        assert (found[0] == first) == (ends == "commit")
        assert sum(not each.existed for each in found) == (ends == "rollback")
        assert client.get(found[0]) is not None


def test_a_loser_waits_no_longer_than_its_lock_timeout(
    client: synk.Client, storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    with psycopg.connect(storage.conninfo()) as winner:
        client.insert_tx(winner, "a", Sync(), SKIP)
        connection.execute("SET lock_timeout = '50ms'")

        with pytest.raises(synk.StorageConflict, match="lock timeout"):
            client.insert_tx(connection, "a", Sync(), SKIP)


def test_what_an_open_transaction_was_told_of_does_not_begin_before_it_ends(
    client: synk.Client, storage: PostgresStorage
) -> None:
    """It would not see what the transaction wrote, and nobody would look at that again."""
    first = client.insert("a", Sync(), SKIP)
    with psycopg.connect(storage.conninfo()) as own, psycopg.connect(storage.conninfo()) as other:
        assert client.insert_tx(own, "a", Sync(), SKIP) == first
        # Nor does that keep a second one from being told.
        assert client.insert_tx(other, "a", Sync(), SKIP) == first
        other.rollback()
        assert claim(storage) == []
        own.commit()

    assert [job.id for job in claim(storage)] == [first]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_under_a_strict_isolation_level_what_cannot_be_seen_is_a_conflict(
    client: synk.Client, storage: PostgresStorage, connection: psycopg.Connection, level: str
) -> None:
    with psycopg.connect(storage.conninfo()) as own:
        own.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
        own.execute("SELECT 1 FROM synk.job")
        hidden = client.insert("a", Sync("hidden"), SKIP)
        mine = client.insert_tx(own, "a", Sync("mine"), SKIP)
        assert client.insert_tx(own, "a", Sync("mine"), SKIP) == mine
        with pytest.raises(synk.StorageConflict):
            client.insert_tx(own, "a", Sync("hidden"), SKIP)
        own.commit()

    assert ids_of(connection) == [hidden, mine]


def test_bulk_inserts_that_meet_in_many_scopes_do_not_wait_for_each_other_for_ever(
    client: synk.Client, connection: psycopg.Connection
) -> None:
    """Given in opposite orders: they are stored in one."""
    tenants = [f"t{n}" for n in range(3000)]
    barrier = threading.Barrier(4)

    def insert(number: int) -> list[int]:
        order = tenants if number % 2 else tenants[::-1]
        barrier.wait()
        return sorted(client.insert_many([("a", Sync(tenant), SKIP) for tenant in order]))

    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(insert, range(4)))

    assert found == [ids_of(connection)] * 4
    connection.execute("SELECT pg_stat_clear_snapshot()")
    assert connection.execute(deadlocks).fetchone() == (0,)


def test_ids_of_many_threads_are_of_jobs_that_are_there(
    client: synk.Client, storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    """Beside a supervisor that takes them: two are never in a scope, and no id is of nothing."""
    register(storage, OWNER)
    stop = threading.Event()
    seen: list[int] = []

    def insert(number: int) -> None:
        for n in range(40):
            options = FINISHED if number % 2 else SKIP
            seen.append(client.insert("a", Sync(f"t{n % 5}", number), options))

    def work() -> None:
        while not stop.is_set():
            for job in claim(storage, 3):
                acknowledge(storage, job)

    with ThreadPoolExecutor(17) as pool:
        worker = pool.submit(work)
        inserts = [pool.submit(insert, number) for number in range(16)]
        while not all(each.done() for each in inserts):
            assert connection.execute(TWICE).fetchone() == (0,)
        stop.set()
        worker.result(30)
        assert [each.result() for each in inserts] == [None] * 16

    assert set(seen) == set(ids_of(connection))
    assert len(seen) == 640


# -- what a kind says, and what people see ---------------------------------------------------------


def test_a_kind_may_say_that_its_jobs_are_unique_and_an_insert_something_else(
    storage: PostgresStorage,
) -> None:
    @synk.worker(unique=synk.Unique(by=("args.tenant",)))
    def sync(job: synk.Job[Sync]) -> None:
        pass

    with synk.Client(storage=storage, workers=[sync]) as client:
        first, second = client.insert_many([("a", Sync()), ("a", Sync(n=2))])
        third = client.insert("a", Sync(n=3), unique("args.n"))
        with pytest.raises(synk.InvalidJob, match="idempotency_key"):
            client.insert("a", Sync(), synk.InsertOptions(idempotency_key="k"))

    assert first == second != third


def test_a_kind_whose_arguments_have_no_such_field_is_refused_where_it_is_said() -> None:
    @synk.worker(unique=synk.Unique(by=("args.nobody",)))
    def sync(job: synk.Job[Sync]) -> None:
        pass

    with pytest.raises(synk.ConfigurationError, match="args has more, n, tenant") as caught:
        synk.Client(storage=PostgresStorage("dbname=x"), workers=[sync])

    assert (caught.value.field, caught.value.value) == ("unique.by", "args.nobody")


def test_the_commands_tell_of_the_scope_and_who_is_in_it(client: synk.Client, dsn: str) -> None:
    first = client.insert("a", Sync(), unique(period=dt.timedelta(days=1)))
    client.cancel(first)
    second = client.insert("a", Sync(), unique(period=dt.timedelta(days=1)))

    shown = [run("job", str(id), dsn=dsn).stdout for id in (first, second)]
    refused = run("retry", str(first), dsn=dsn)
    record = json.loads(run("job", str(first), "--json", dsn=dsn).stdout)

    said = "by kind, args.tenant, in 1 day, 0:00:00 from"
    assert [said in " ".join(text.split()) for text in shown] == [True, True]
    assert f"job {second} is in its scope" in " ".join(shown[0].split())
    assert "it is in its scope" in " ".join(shown[1].split())
    assert refused.returncode == 1
    assert f"job {first}: unchanged: job {second} is in its unique scope" in refused.stdout
    assert record["unique"]["job_id"] == second


# -- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("by", "args.tenant"), ("by", ("tenant",)), ("by", (7,)), ("by", ("args.",)),
        ("by", ("args.a.",)), ("by", ("args\n.a",)), ("by", tuple(f"args.f{n}" for n in range(17))),
        ("until", "done"), ("on_conflict", "ignore"), ("period", 60), ("period", dt.timedelta(0)),
        ("period", dt.timedelta(-1)), ("period", dt.timedelta(days=40_000)),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_where_it_is_said(name: str, value: Any) -> None:
    with pytest.raises(synk.ConfigurationError) as caught:
        synk.Unique(**{name: value})

    assert caught.value.field == f"unique.{name}"


def test_an_insert_with_a_field_that_is_not_there_or_beside_a_key_is_refused(
    client: synk.Client, connection: psycopg.Connection
) -> None:
    for path in ("args.nobody", "args.tenant.x", "args.more.a"):
        with pytest.raises(synk.InvalidJob, match=path):
            client.insert("a", Sync(), unique(path))
    with pytest.raises(synk.InvalidJob, match="idempotency_key='k'"):
        synk.InsertOptions(unique=synk.Unique(), idempotency_key="k")
    with pytest.raises(synk.InvalidJob, match=r"must be a synk\.Unique"):
        synk.InsertOptions(unique="args")  # type: ignore[arg-type]
    assert ids_of(connection) == []


def test_a_storage_that_knows_no_unique_jobs_is_found_out() -> None:
    class Plain:
        def insert(self, jobs: Any, *, connection: Any = None) -> list[int]:
            raise AssertionError

        ping = get_job_available = update_job_state = close = insert

    client = synk.Client(storage=Plain())  # type: ignore[arg-type]
    with pytest.raises(synk.ConfigurationError, match="knows no unique jobs"):
        client.insert("a", Sync(), SKIP)


def test_the_scope_of_a_job_cannot_be_changed_and_its_key_can_be_given_up(
    client: synk.Client, connection: psycopg.Connection
) -> None:
    first = client.insert("a", Sync(), SKIP)
    with pytest.raises(psycopg.Error, match="cannot be changed"):
        connection.execute("UPDATE synk.job SET unique_scope = '7'")

    connection.execute("UPDATE synk.job SET unique_key = NULL")

    assert client.insert("a", Sync(), SKIP) != first


def test_unique_jobs_have_their_tags_and_meta(client: synk.Client) -> None:
    job_id = client.insert("a", Sync(), unique(tags=["x"], meta={"a": 1}))

    row = client.get(job_id)
    assert row
    assert (row.tags, row.meta) == (["x"], {"a": 1})


def test_a_job_that_is_replaced_has_the_limit_of_its_new_arguments(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    keys: list[Any] = []
    for number, options in ((1, SKIP), (2, REPLACE)):
        job = new_job(args=json.dumps({"tenant": "t", "n": number}), options=options)
        limited = structs.replace(job, limit=synk.Limit("of", key="args.n"))
        storage.insert_unique([limited])
        keys += connection.execute("SELECT id, limit_key FROM synk.job").fetchall()

    assert keys == [(1, "of:1"), (1, "of:2")]


def test_on_postgresql_15_it_is_the_same(server15_dsn: str) -> None:
    with synk.Client(storage=PostgresStorage(server15_dsn)) as client:
        first = client.insert("a", Sync(), unique(period=dt.timedelta(hours=1)))
        many = client.insert_many([("a", Sync(), unique(period=dt.timedelta(hours=1)))] * 2)
        assert set(many) == {first}
        assert (
            client.insert(
                "a", Sync(n=2), unique(period=dt.timedelta(hours=1), on_conflict="replace")
            )
            == first
        )
        client.cancel(first)
        second = client.insert("a", Sync(), unique(period=dt.timedelta(hours=1)))
        assert client.retry(first) is synk.Change.NOT_UNIQUE
        assert scope_of(client, first).job_id == second
