"""Many jobs at once, by a filter: the redrive of what failed, on PostgreSQL 15 and the newest."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import synk
from support.jobs import handlers
from support.model import ModelStorage
from support.servers import Server
from support.supervising import DEADLINE_S, ended, supervised
from synk.bulk import Changes, JobFilter
from synk.row import CancelReason, Change, JobState
from synk.storage.postgres import PostgresStorage
from synk.storage.statements_bulk import BATCH_JOBS, SEARCHED_JOBS
from synk.testing.making import (
    FUTURE,
    NOW,
    OWNER,
    PAST,
    acknowledge,
    begun,
    claim,
    fail,
    get,
    insert,
    job_in,
    register,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAILED = JobFilter(reason=CancelReason.FAILED)
EVERY = JobFilter(ids=(1, 2**63 - 1))
DAY = dt.timedelta(days=1)

FILL = """
INSERT INTO synk.job (kind, name, queue, state, cancel_reason, attempt, finalized_at, created_at,
                      errors)
SELECT CASE WHEN n %% 2 = 0 THEN 'even' ELSE 'odd' END, 'x', 'default', 'cancelled', 'failed', 7,
       now() - (%(count)s - n) * interval '1 ms' - interval '1 min', now() - interval '1 h',
       ARRAY[jsonb_build_object('cause', 'exception', 'type', 'app.Declined')]
FROM generate_series(1, %(count)s) AS n
"""


@pytest.fixture(params=["18", "15"])
def storage(request: pytest.FixtureRequest) -> Iterator[PostgresStorage]:
    name = "dsn" if request.param == "18" else "server15_dsn"
    storage = PostgresStorage(request.getfixturevalue(name))
    yield storage
    storage.close()


@pytest.fixture
def client(storage: PostgresStorage) -> synk.Client:
    return synk.Client(storage=storage)


@pytest.fixture
def sql(storage: PostgresStorage) -> Iterator[psycopg.Connection]:
    with psycopg.connect(storage.conninfo(), autocommit=True) as connection:
        yield connection


def fill(sql: psycopg.Connection, count: int) -> None:
    with sql.transaction():
        sql.execute("SET LOCAL session_replication_role = replica")
        sql.execute(FILL, {"count": count})


def failed(storage: PostgresStorage, error: str | None = None, **options: Any) -> int:
    job = begun(storage, **options)
    record = None if error is None else f'{{"cause": "exception", "type": "{error}"}}'
    acknowledge(
        storage, job, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED, error=record
    )
    return job.id


# -- which jobs ------------------------------------------------------------------------------------


def test_a_filter_means_what_is_all_of_what_it_says(
    storage: PostgresStorage, client: synk.Client
) -> None:
    one = failed(storage, "app.Declined", tags=["a", "b"])
    two = failed(storage, "ValueError", tags=["a"])
    three = insert(storage, queue="slow", kind="other", scheduled_at=FUTURE)
    four = insert(storage)
    storage.cancel(four)
    meant = {
        JobFilter(reason=CancelReason.FAILED): {one, two},
        JobFilter(state=JobState.CANCELLED): {one, two, four},
        JobFilter(state=JobState.SCHEDULED): {three},
        JobFilter(state=JobState.COMPLETED): set(),
        JobFilter(kind="other"): {three},
        JobFilter(queue="slow"): {three},
        JobFilter(tags=["a"]): {one, two},
        JobFilter(tags=["b", "a"]): {one},
        JobFilter(ids=(two, three)): {two, three},
        JobFilter(error="Declined"): {one},
        JobFilter(error="app.Declined"): {one},
        JobFilter(error="eclined"): set(),
        JobFilter(error="ValueError"): {two},
        JobFilter(error="exception"): {one, two},
        JobFilter(error="%"): set(),
        JobFilter(since=DAY): {one, two, three, four},
        JobFilter(until=DAY): set(),
        JobFilter(reason=CancelReason.FAILED, since=DAY, ids=(two, four)): {two},
        JobFilter(reason=CancelReason.FAILED, until=DAY): set(),
        EVERY: {one, two, three, four},
    }

    for wanted, ids in meant.items():
        found = client.count(wanted)
        assert (found.count, found.is_more, str(found)) == (len(ids), False, str(len(ids))), wanted

    assert client.delete_many(JobFilter(tags=["a"])).counts == {Change.APPLIED: 2}
    assert [row.id for row in storage.get([one, two, three, four])] == [three, four]


def test_times_are_those_of_the_end_or_else_of_the_insert(
    client: synk.Client, sql: psycopg.Connection
) -> None:
    fill(sql, 100)
    sql.execute("UPDATE synk.job SET finalized_at = now() - interval '3 days' WHERE id <= 10")
    sql.execute(
        "INSERT INTO synk.job (kind, name, created_at) VALUES ('k', 'x', now() - '3 d'::interval)"
    )
    now = dt.datetime.now(dt.UTC)

    def count(**said: Any) -> int:
        return client.count(JobFilter(**said)).count

    assert count(since=2 * DAY) == 90
    assert count(until=2 * DAY) == 11
    assert count(since=now - 4 * DAY, until=now - 2 * DAY) == 11
    assert count(state=JobState.CANCELLED, since=now - 4 * DAY, until=2 * DAY) == 10
    assert count(state=JobState.AVAILABLE, until=2 * DAY) == 1


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("state", "done", "must be one of available"),
        ("reason", "bored", "must be one of requested"),
        ("kind", "", "must not be empty"),
        ("queue", 7, "must be a string"),
        ("tags", "word", "list of strings"),
        ("since", dt.datetime(2030, 1, 1), "naive"),  # noqa: DTZ001
        ("since", -DAY, "from zero"),
        ("until", 5, "must be a datetime"),
        ("ids", (1, 2, 3), "lowest and the highest"),
        ("ids", (0, 2), "id of a job"),
        ("ids", (3, 2), "in this order"),
        ("ids", 7, "lowest and the highest"),
        ("error", "", "must not be empty"),
    ],
)
def test_bad_filters_are_refused_by_field_and_value(field: str, value: Any, problem: str) -> None:
    with pytest.raises(synk.InvalidValue, match=problem) as caught:
        JobFilter(**{field: value})

    assert caught.value.field == field


def test_what_contradicts_itself_or_says_nothing_is_refused(client: synk.Client) -> None:
    with pytest.raises(synk.InvalidValue, match="is of cancelled jobs"):
        JobFilter(state=JobState.RUNNING, reason=CancelReason.FAILED)
    with pytest.raises(synk.InvalidValue, match="not after since"):
        JobFilter(since=FUTURE, until=PAST)
    verbs: list[Callable[[Any], Any]] = [
        client.count, client.retry_many, client.cancel_many, client.delete_many
    ]  # fmt: skip
    for verb in verbs:
        with pytest.raises(synk.InvalidValue, match="says nothing"):
            verb(JobFilter())
        with pytest.raises(synk.InvalidValue, match="must be a JobFilter"):
            verb({"kind": "x"})
    for limit in (0, -1, True, "5"):
        with pytest.raises(synk.InvalidValue, match="limit"):
            client.retry_many(FAILED, limit=limit)  # pyright: ignore[reportArgumentType]


def test_a_storage_of_ones_own_need_not_have_it() -> None:
    with (
        synk.Client(storage=ModelStorage()) as client,
        pytest.raises(synk.ConfigurationError, match="many jobs at once"),
    ):
        client.retry_many(FAILED)


# -- what becomes of them --------------------------------------------------------------------------


def test_a_filter_that_means_nothing_changes_nothing(
    client: synk.Client, storage: PostgresStorage
) -> None:
    told: list[str] = []
    insert(storage)

    for verb in (client.retry_many, client.cancel_many, client.delete_many):
        changes = verb(JobFilter(kind="none"), progress=lambda changes: told.append(str(changes)))
        assert (changes.counts, changes.skipped, str(changes)) == ({}, 0, "none")

    assert set(told) == {"none"}


def test_each_state_has_the_answer_that_the_single_verb_gives(
    storage: PostgresStorage, client: synk.Client
) -> None:
    expected = {
        "retry": {Change.APPLIED: 3, Change.REFUSED: 3},
        "cancel": {Change.APPLIED: 3, Change.REQUESTED: 1, Change.REFUSED: 2},
        "delete": {Change.APPLIED: 5, Change.REFUSED: 1},
    }
    for verb, counts in expected.items():
        ids = [job_in(storage, state) for state in JobState]
        mine = JobFilter(ids=(ids[0], ids[-1]))

        changes: Changes = getattr(client, f"{verb}_many")(mine)

        assert changes.counts == counts, verb
        again = [getattr(storage, verb)(job_id) for job_id in ids]
        assert len(again) == len(ids)


@pytest.mark.parametrize("verb", ["retry", "cancel"])
@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.COMPLETED, JobState.SCHEDULED])
def test_a_job_is_left_as_the_single_verb_leaves_it(
    storage: PostgresStorage,
    client: synk.Client,
    sql: psycopg.Connection,
    verb: str,
    state: JobState,
) -> None:
    """Both do it by statements of their own."""
    ids: list[int] = []
    for _ in range(2):
        job = begun(storage, max_retries=0, start_before=FUTURE, meta={"a": 1}, tags=["t"])
        error = '{"cause": "exception", "type": "ValueError"}'
        reason = CancelReason.FAILED if state is JobState.CANCELLED else None
        at = FUTURE if state is JobState.SCHEDULED else None
        acknowledge(
            storage, job, state=state, error=error, cancel_reason=reason, retry_at=at,
            progress='{"done": 1}', checkpoint="7", result="5", output="out", crashed=True, pid=9,
        )  # fmt: skip
        ids.append(job.id)

    getattr(storage, verb)(ids[0])
    getattr(client, f"{verb}_many")(JobFilter(ids=(ids[1], ids[1])))

    own = "id,created_at,scheduled_at,attempted_at,finalized_at,cancel_requested_at,errors"
    times = f"'{{{own}}}'::text[]"
    rows = sql.execute(
        f"SELECT to_jsonb(j) - {times} || jsonb_build_object('late', j.scheduled_at > now(),"
        " 'ended', j.finalized_at IS NULL, 'wanted', j.cancel_requested_at IS NULL,"
        " 'fails', cardinality(j.errors))"
        " FROM synk.job AS j ORDER BY id".encode()
    ).fetchall()
    assert rows[0] == rows[1]


def test_a_retry_behind_what_can_no_longer_complete_is_blocked_and_the_others_are_not(
    storage: PostgresStorage, client: synk.Client
) -> None:
    first = insert(storage, pending=True)
    behind = [insert(storage, depends_on=[first]) for _ in range(3)]
    storage.cancel(first)
    alone = failed(storage)
    wanted = JobFilter(state=JobState.CANCELLED, ids=(behind[0], alone))

    assert client.retry_many(wanted).counts == {Change.APPLIED: 1, Change.BLOCKED: 3}
    storage.retry(first)
    assert client.retry_many(wanted).counts == {Change.APPLIED: 3}
    assert {get(storage, each).state for each in behind} == {JobState.PENDING}


def test_what_is_cancelled_or_deleted_takes_along_what_waits_for_it(
    storage: PostgresStorage, client: synk.Client
) -> None:
    firsts = [insert(storage, scheduled_at=FUTURE, tags=["t"]) for _ in range(4)]
    behind = [insert(storage, depends_on=[each]) for each in firsts]

    assert client.cancel_many(JobFilter(tags=["t"], ids=(1, firsts[1]))).applied == 2
    assert client.delete_many(JobFilter(tags=["t"], ids=(firsts[2], firsts[3]))).applied == 2

    reasons = {get(storage, each).cancel_reason for each in behind}
    assert reasons == {CancelReason.DEPENDENCY}


def test_one_unique_row_that_is_in_the_way_keeps_no_other_from_it(
    storage: PostgresStorage, client: synk.Client, sql: psycopg.Connection
) -> None:
    """Each of that batch is tried by itself."""
    fill(sql, 2_500)
    sql.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'taken' USING ERRCODE = 'SY005'; END $$"
    )
    sql.execute(
        "CREATE TRIGGER zz_refuse BEFORE UPDATE OF state ON synk.job FOR EACH ROW"
        " WHEN (OLD.id % 1000 = 7) EXECUTE FUNCTION public.refuse()"
    )
    try:
        changes = client.retry_many(FAILED)
    finally:
        sql.execute("DROP FUNCTION public.refuse() CASCADE")

    assert changes.counts == {Change.APPLIED: 2_497, Change.NOT_UNIQUE: 3}
    assert storage.counts() == {JobState.AVAILABLE: 2_497, JobState.CANCELLED: 3}


def test_a_unique_job_whose_place_is_taken_is_told_and_the_others_are_retried(
    storage: PostgresStorage, client: synk.Client
) -> None:
    unique = synk.InsertOptions(unique=synk.Unique(by=("args.n",), until="finished"))
    for n in (1, 2, 3):
        client.cancel(client.insert("x", handlers.Noop(n), unique))
    client.cancel(client.insert("x", handlers.Noop(1), unique))
    client.insert("x", handlers.Noop(2), unique)

    changes = client.retry_many(JobFilter(state=JobState.CANCELLED))

    # Of two that were the same, one begins anew.
    assert changes.counts == {Change.APPLIED: 2, Change.NOT_UNIQUE: 2}
    assert storage.counts() == {JobState.AVAILABLE: 3, JobState.CANCELLED: 2}


def test_what_somebody_has_locked_is_skipped_and_said(
    storage: PostgresStorage, client: synk.Client, sql: psycopg.Connection
) -> None:
    fill(sql, 20)
    with psycopg.connect(storage.conninfo()) as other:
        other.execute("SELECT FROM synk.job WHERE id <= 5 FOR UPDATE")
        changes = client.retry_many(FAILED)

    assert (changes.counts, changes.skipped, changes.looked) == ({Change.APPLIED: 15}, 5, 20)
    assert str(changes) == "15 applied, 5 skipped"
    assert client.retry_many(FAILED).counts == {Change.APPLIED: 5}


# -- a count, and what comes after it --------------------------------------------------------------


def test_what_is_inserted_or_ends_after_the_count_is_not_meant_by_it(
    storage: PostgresStorage, client: synk.Client
) -> None:
    jobs = [begun(storage) for _ in range(3)]
    for job in jobs[:2]:
        fail(storage, job, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)
    waiting = insert(storage, kind="later")
    of_failed, of_kind = client.count(FAILED), client.count(JobFilter(kind="later"))

    fail(storage, jobs[2], state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)
    insert(storage, kind="later")

    assert (of_failed.count, of_kind.count) == (2, 1)
    assert client.retry_many(of_failed.filter).counts == {Change.APPLIED: 2}
    assert client.cancel_many(of_kind.filter).counts == {Change.APPLIED: 1}
    assert get(storage, waiting).state is JobState.CANCELLED
    assert client.count(FAILED).count == 1


def test_a_job_that_fails_again_meanwhile_is_retried_once(
    storage: PostgresStorage, client: synk.Client, sql: psycopg.Connection
) -> None:
    fill(sql, 3 * BATCH_JOBS)

    def fail_all_again(_: Changes) -> None:
        sql.execute(
            "UPDATE synk.job SET state = 'cancelled', cancel_reason = 'failed'"
            " WHERE state = 'available'"
        )

    changes = client.retry_many(FAILED, progress=fail_all_again)

    assert changes.counts == {Change.APPLIED: 3 * BATCH_JOBS}
    assert storage.counts() == {JobState.CANCELLED: 3 * BATCH_JOBS}


@pytest.mark.parametrize("wanted", [FAILED, JobFilter(kind="odd"), JobFilter(error="Declined")])
def test_a_hundred_thousand_are_retried_in_well_under_a_minute(
    storage: PostgresStorage, client: synk.Client, sql: psycopg.Connection, wanted: JobFilter
) -> None:
    count = 100_000
    fill(sql, count)
    meant = count // 2 if wanted.kind else count
    looked: list[int] = []
    began = time.monotonic()

    found = client.count(wanted)
    changes = client.retry_many(found.filter, progress=lambda each: looked.append(each.looked))

    assert found.count == meant
    assert changes.counts == {Change.APPLIED: meant}
    assert looked[: meant // BATCH_JOBS] == [
        BATCH_JOBS * n for n in range(1, meant // BATCH_JOBS + 1)
    ]
    assert storage.counts()[JobState.AVAILABLE] == meant
    # On a busy machine, too.
    assert time.monotonic() - began < 45


def test_a_count_ends_at_a_hundred_thousand_and_says_so(
    client: synk.Client, sql: psycopg.Connection
) -> None:
    fill(sql, 100_500)

    found = client.count(FAILED)

    assert (found.count, found.is_more, str(found)) == (100_000, True, "at least 100,000")


def test_few_among_very_many_are_found_in_steps(
    storage: PostgresStorage, client: synk.Client, sql: psycopg.Connection
) -> None:
    count = 2 * SEARCHED_JOBS + 500
    fill(sql, count)
    sql.execute("UPDATE synk.job SET queue = 'rare' WHERE id IN (1, %s, %s)", [count // 2, count])
    told: list[int] = []

    for wanted in (JobFilter(queue="rare"), JobFilter(queue="rare", reason=CancelReason.FAILED)):
        assert client.count(wanted).count == 3
    changes = client.retry_many(
        JobFilter(queue="rare"), progress=lambda each: told.append(each.looked)
    )

    assert changes.counts == {Change.APPLIED: 3}
    assert told == [1, 2, 3]


# -- how it ends, and who is beside it -------------------------------------------------------------


def test_a_limit_is_kept(client: synk.Client, sql: psycopg.Connection) -> None:
    fill(sql, 3_000)

    assert client.retry_many(FAILED, limit=1_500).counts == {Change.APPLIED: 1_500}
    assert client.delete_many(FAILED, limit=7).counts == {Change.APPLIED: 7}
    assert client.count(FAILED).count == 1_493


def test_whoever_stops_it_leaves_whole_batches_done(
    storage: PostgresStorage, client: synk.Client, sql: psycopg.Connection
) -> None:
    fill(sql, 5_000)

    def stop(changes: Changes) -> None:
        if changes.looked >= 2_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.retry_many(FAILED, progress=stop)

    assert storage.counts() == {JobState.AVAILABLE: 2_000, JobState.CANCELLED: 3_000}


def test_a_server_that_gives_up_on_a_batch_gets_smaller_ones(
    storage: PostgresStorage, client: synk.Client, sql: psycopg.Connection
) -> None:
    fill(sql, 300)
    sql.execute(
        "CREATE FUNCTION public.slowly() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$"
    )
    sql.execute(
        "CREATE TRIGGER slowly BEFORE UPDATE ON synk.job FOR EACH ROW"
        " EXECUTE FUNCTION public.slowly()"
    )
    name = sql.info.dbname
    sql.execute(f'ALTER DATABASE "{name}" SET statement_timeout = 0'.encode())
    timed = PostgresStorage(f"{storage.conninfo()} options='-c statement_timeout=1s'")
    try:
        with synk.Client(storage=timed) as other:
            assert other.retry_many(FAILED).counts == {Change.APPLIED: 300}
    finally:
        sql.execute("DROP FUNCTION public.slowly() CASCADE")


def test_claims_and_cleaning_go_on_beside_it(
    storage: PostgresStorage, client: synk.Client, sql: psycopg.Connection
) -> None:
    """Each job is retried once, each is claimed once, and nobody waits or deadlocks."""
    count = 20_000
    fill(sql, count)
    register(storage, OWNER)
    claimed: list[int] = []
    cleaned: list[int] = []

    def claims(seq: int) -> None:
        jobs = claim(storage, 300, seq=seq, kinds=("odd", "even"))
        claimed.extend(job.id for job in jobs)
        for job in jobs[::50]:
            acknowledge(storage, job)

    def cleans(_: int) -> None:
        final = (JobState.COMPLETED, JobState.CANCELLED)
        cleaned.extend(storage.cleaner(state, NOW, limit=100) for state in final)

    with beside(claims, cleans):
        changes = client.retry_many(FAILED)

    assert set(changes.counts) == {Change.APPLIED}
    assert len(claimed) == len(set(claimed))
    left = sql.execute("SELECT count(*) FROM synk.job").fetchone()
    assert left is not None
    assert left[0] + sum(cleaned) == count
    assert changes.looked <= count


@contextmanager
def beside(*actions: Callable[[int], None]) -> Iterator[None]:
    """Has each of them done again and again."""
    over = threading.Event()

    def again(action: Callable[[int], None]) -> None:
        number = 0
        while not over.is_set():
            number += 1
            action(number)

    threads = [threading.Thread(target=again, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


def test_a_running_job_is_told_and_a_waiting_one_is_cancelled(dsn: str, tmp_path: Any) -> None:
    with supervised(dsn) as client:
        waiting = client.insert("x", handlers.Noop(), synk.InsertOptions(pending=True, tags=["t"]))
        running = client.insert(
            "x", handlers.Slow(str(tmp_path / "gate")), synk.InsertOptions(tags=["t"])
        )
        while client.storage.get([running])[0].state is not JobState.RUNNING:
            time.sleep(0.01)

        changes = client.cancel_many(JobFilter(tags=["t"]))

        assert changes.counts == {Change.APPLIED: 1, Change.REQUESTED: 1}
        rows = [ended(client, job_id) for job_id in (waiting, running)]
    assert {row.cancel_reason for row in rows} == {CancelReason.REQUESTED}


def test_an_asyncio_client_does_the_same(dsn: str) -> None:
    async def run() -> tuple[int, list[int], Any]:
        storage = PostgresStorage(dsn)
        async with synk.AsyncClient(storage=storage) as client:
            many = [("x", handlers.Noop())] * 2_500
            await client.insert_many(many)
            found = await client.count(JobFilter(kind="noop"))
            told: list[int] = []
            await client.cancel_many(found.filter, progress=lambda each: told.append(each.looked))
            retried = await client.retry_many(JobFilter(kind="noop"), limit=1_000)
            deleted = await client.delete_many(JobFilter(state=JobState.CANCELLED))
            with pytest.raises(synk.InvalidValue, match="says nothing"):
                await client.delete_many(JobFilter())
        storage.close()
        return found.count, told, (retried.counts, deleted.counts)

    count, told, counts = asyncio.run(run())

    assert (count, told) == (2_500, [1_000, 2_000, 2_500])
    assert counts == ({Change.APPLIED: 1_000}, {Change.APPLIED: 1_500})


# -- what it costs ---------------------------------------------------------------------------------


def test_a_batch_reads_no_more_of_a_large_table_than_it_looks_at(server: Server) -> None:
    """Whatever the planner knows: neither the rest of the table, nor what came before."""
    with server.database() as dsn, psycopg.connect(dsn, autocommit=True) as sql:
        fill(sql, 200_000)
        storage = PostgresStorage(dsn)
        for wanted in (FAILED, JobFilter(kind="odd")):
            bound = synk.Client(storage=storage).count(wanted).filter
            for when in ("before", "after"):
                after = (
                    (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=100), 0)
                    if wanted.ended
                    else (PAST, 150_000)
                )
                statement = storage.statements.bulk("retry_many", bound, after, 100)
                with sql.transaction(force_rollback=True):
                    for name in ("seqscan", "hashjoin", "mergejoin"):
                        sql.execute(f"SET LOCAL enable_{name} = off".encode())
                    row = sql.execute(
                        b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement.text.encode(),
                        statement.parameters,
                    ).fetchone()
                assert row is not None
                plan = row[0][0]["Plan"]
                pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
                assert pages < 100 * 40 + 100, (wanted, when)
                sql.execute("ANALYZE synk.job")
        storage.close()
