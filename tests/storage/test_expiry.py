"""Jobs that expire, and jobs with a retention of their own, on PostgreSQL."""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import synk
from support.jobs import handlers
from support.model import ModelStorage
from support.supervising import DEADLINE_S, ended, make_client, supervised, wait_until
from synk.row import CancelReason, Change, JobState
from synk.storage.postgres import PostgresStorage
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
    new_job,
    register,
    release,
)
from synk.testing.sweeping import SweepingConformance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from synk.storage.base import Storage

SECOND = dt.timedelta(seconds=1)


class TestSweeping(SweepingConformance):
    @pytest.fixture
    def storage(self, any_storage: Storage) -> Storage:
        return any_storage


class TestSweepingOnPostgres15(SweepingConformance):
    @pytest.fixture
    def storage(self, server15_dsn: str) -> Iterator[PostgresStorage]:
        storage = PostgresStorage(server15_dsn)
        yield storage
        storage.close()


def pass_time(connection: psycopg.Connection, job_id: int, by: str = "1 day") -> None:
    """Has all times of a job be longer ago, and has it looked at."""
    connection.execute(
        "UPDATE synk.job SET start_before = start_before - %(by)s::interval,"
        " finalized_at = finalized_at - %(by)s::interval WHERE id = %(id)s",
        {"by": by, "id": job_id},
    )
    connection.execute("UPDATE synk.watched SET at = now() WHERE id = %s", [job_id])


def watched(connection: psycopg.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT id FROM synk.watched ORDER BY id")]


def ends(storage: PostgresStorage, job_id: int) -> tuple[JobState, CancelReason | None]:
    row = get(storage, job_id)
    return row.state, row.cancel_reason


EXPIRED = (JobState.CANCELLED, CancelReason.EXPIRED)


# -- start_before ----------------------------------------------------------------------------------


def test_a_plain_job_is_watched_by_nobody(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    acknowledge(storage, begun(storage, tags=["t"]))

    assert watched(connection) == []
    assert storage.sweep(10).looked == 0


def test_a_span_is_counted_from_the_insert_by_the_databases_clock(
    storage: PostgresStorage,
) -> None:
    row = get(storage, insert(storage, start_before=dt.timedelta(minutes=5)))

    assert row.start_before is not None
    assert row.start_before - row.created_at == dt.timedelta(minutes=5)


@pytest.mark.parametrize(
    ("options", "field", "problem"),
    [
        ({"start_before": 5}, "start_before", "datetime or a timedelta"),
        ({"start_before": dt.timedelta(0)}, "start_before", "above zero"),
        ({"start_before": -SECOND}, "start_before", "above zero"),
        ({"start_before": dt.timedelta.max}, "start_before", "a thousand years"),
        ({"start_before": dt.datetime(2030, 1, 1)}, "start_before", "naive"),  # noqa: DTZ001
        ({"start_before": PAST, "scheduled_at": FUTURE}, "start_before", "not after scheduled_at"),
        ({"keep": dt.timedelta(0)}, "keep", "above zero"),
        ({"keep": -SECOND}, "keep", "above zero"),
        ({"keep": 60}, "keep", "must be a timedelta"),
    ],
)
def test_bad_ones_are_refused_by_field_and_value(
    options: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(synk.InvalidJob, match=problem) as caught:
        synk.InsertOptions(**options)

    assert (caught.value.field, caught.value.value) == (field, options[field])


def test_one_that_psql_inserts_expires_too(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    connection.execute(
        "INSERT INTO synk.job (kind, name, start_before, keep)"
        " VALUES ('kind', 'x', now() - interval '1 s', '1 year')"
    )
    connection.execute("INSERT INTO synk.job (kind, name) VALUES ('kind', 'y')")

    assert [job.id for job in claim(storage)] == [2]
    assert storage.sweep(10).expired == 1
    assert ends(storage, 1) == EXPIRED


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("keep", "0", "keep_is_above_zero"),
        ("keep", "-1 day", "keep_is_above_zero"),
        ("start_before", "infinity", "times_can_be_read"),
        ("start_before", "0044-03-15 BC", "times_can_be_read"),
    ],
)
def test_psql_is_refused_what_makes_no_sense(
    connection: psycopg.Connection, column: str, value: str, rule: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match=rule):
        connection.execute(
            f"INSERT INTO synk.job (kind, name, {column}) VALUES ('k', 'x', %s)".encode(), [value]
        )


def test_psql_may_set_and_take_away_the_time_later(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job_id = insert(storage)
    connection.execute("UPDATE synk.job SET start_before = now() - interval '1 s'")
    assert claim(storage) == []
    connection.execute("UPDATE synk.job SET start_before = NULL")

    assert storage.sweep(10).expired == 0
    assert watched(connection) == []
    assert [job.id for job in claim(storage)] == [job_id]


def test_once_an_attempt_counts_it_has_begun(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job = begun(storage, start_before=FUTURE)
    fail(storage, job, retry_at=PAST)
    pass_time(connection, job.id, "100 years")

    assert storage.sweep(10).expired == 0
    storage.stage(10)

    assert [again.id for again in claim(storage)] == [job.id]
    assert watched(connection) == []


def test_what_is_given_back_after_its_time_without_having_begun_expires(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job = begun(storage, start_before=FUTURE)
    pass_time(connection, job.id, "100 years")

    assert storage.sweep(10).expired == 0
    assert watched(connection) == [job.id]
    release(storage, job)
    assert claim(storage) == []
    connection.execute("UPDATE synk.watched SET at = now()")

    assert storage.sweep(10).expired == 1
    assert ends(storage, job.id) == EXPIRED


def test_what_is_made_available_by_hand_after_its_time_expires_and_does_not_lie_there(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job_id = insert(storage, start_before=PAST)
    storage.cancel(job_id)
    storage.sweep(10)
    assert watched(connection) == [job_id]

    connection.execute("UPDATE synk.job SET state = 'available'")
    connection.execute("UPDATE synk.watched SET at = now()")

    assert storage.sweep(10).expired == 1
    assert ends(storage, job_id) == EXPIRED


def test_a_claim_and_a_sweep_of_the_same_jobs_have_each_job_once(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    """Jobs whose time comes while they are claimed: each has begun or has expired, never both."""
    count = 600
    storage.insert(
        [
            new_job(options=synk.InsertOptions(start_before=dt.timedelta(milliseconds=5 * n + 50)))
            for n in range(count)
        ]
    )
    register(storage, OWNER)
    claimed: list[int] = []
    expired: list[int] = []
    start = threading.Barrier(2)

    def claims() -> None:
        start.wait()
        seq = 0
        while len(claimed) + sum(expired) < count:
            seq += 1
            claimed.extend(job.id for job in claim(storage, 3, seq=seq))

    def sweeps() -> None:
        start.wait()
        while len(claimed) + sum(expired) < count:
            expired.append(storage.sweep(7).expired)

    threads = [threading.Thread(target=each) for each in (claims, sweeps)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)

    rows = connection.execute(
        "SELECT state::text, bool_and(attempted_at < start_before), count(*)"
        " FROM synk.job GROUP BY state ORDER BY state::text"
    ).fetchall()
    assert ("running", True, len(claimed)) in rows
    assert sum(row[2] for row in rows if row[0] == "cancelled") == sum(expired)
    assert len(claimed) + sum(expired) == count


def test_what_somebody_has_locked_is_left_and_expires_afterwards(
    dsn: str, storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job_id = insert(storage, start_before=PAST)
    with psycopg.connect(dsn) as other:
        other.execute("SELECT FROM synk.job FOR UPDATE")
        assert storage.sweep(10).expired == 0
    connection.execute("UPDATE synk.watched SET at = now()")

    assert storage.sweep(10).expired == 1
    assert ends(storage, job_id) == EXPIRED


def test_ten_thousand_expire_in_batches(storage: PostgresStorage) -> None:
    storage.insert([new_job(options=synk.InsertOptions(start_before=PAST))] * 10_000)

    looked: list[int] = []
    while (swept := storage.sweep(1_000)).expired:
        looked.append(swept.expired)

    assert looked == [1_000] * 10
    assert storage.counts() == {JobState.CANCELLED: 10_000}


def test_a_supervisor_has_them_expire_and_what_depends_on_them_follows(dsn: str) -> None:
    with make_client(dsn) as client:
        late = client.insert("x", handlers.Noop(), synk.InsertOptions(start_before=PAST))
        behind = client.insert("x", handlers.Noop(), synk.InsertOptions(depends_on=(late,)))
        soon = synk.InsertOptions(start_before=dt.timedelta(hours=1))
        in_time = client.insert("x", handlers.Noop(), soon)
        with supervised(dsn):
            rows = [ended(client, job_id) for job_id in (late, behind, in_time)]

    assert [row.cancel_reason for row in rows] == [
        CancelReason.EXPIRED,
        CancelReason.DEPENDENCY,
        None,
    ]
    assert rows[0].attempt == 0


def test_nothing_begins_after_its_time_also_of_what_was_claimed_before(dsn: str) -> None:
    """One process has more to do than it can in that time: what it has not begun expires."""
    with supervised(dsn, processes=1) as client:
        ended(client, client.insert("x", handlers.Clock(0.0)))
        soon = synk.InsertOptions(start_before=dt.timedelta(seconds=1))
        ids = client.insert_many([("x", handlers.Clock(0.02), soon)] * 200)
        rows = [ended(client, job_id) for job_id in ids]

    begun = [row for row in rows if row.state is JobState.COMPLETED]
    expired = [row for row in rows if row.cancel_reason is CancelReason.EXPIRED]
    assert len(begun) + len(expired) == 200
    assert begun
    assert expired
    for row in begun:
        assert row.start_before is not None
        # Of one machine and its two clocks.
        assert isinstance(row.result, float)
        assert row.result <= row.start_before.timestamp() + 0.05
    assert {row.duration for row in expired} <= {None, dt.timedelta(0)}


class Unsweeping(ModelStorage):
    """A storage of one's own without the feature."""

    sweep = None  # pyright: ignore[reportAssignmentType]


def test_a_storage_that_knows_no_such_times_refuses_them() -> None:
    with synk.Client(storage=Unsweeping()) as client:
        for options in (
            synk.InsertOptions(start_before=SECOND),
            synk.InsertOptions(keep=SECOND),
        ):
            with pytest.raises(synk.ConfigurationError, match="no start_before and no keep"):
                client.insert("x", handlers.Noop(), options)
            with pytest.raises(synk.ConfigurationError, match="no start_before and no keep"):
                client.insert_many([("x", handlers.Noop(), options)])
        client.insert("x", handlers.Noop(), synk.InsertOptions(tags=["t"]))


# -- keep ------------------------------------------------------------------------------------------


def test_a_job_is_kept_for_as_long_as_it_says_and_no_cleaner_counts(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    hour = dt.timedelta(hours=1)
    short, long, plain = (begun(storage, keep=each) for each in (hour, 1000 * hour, None))
    for job in (short, long, plain):
        acknowledge(storage, job)
        pass_time(connection, job.id, "3 hours")

    assert storage.sweep(10).removed == 1
    assert storage.cleaner(JobState.COMPLETED, 2 * hour, limit=10) == 1

    assert [row.id for row in storage.get([short.id, long.id, plain.id])] == [long.id]
    pass_time(connection, long.id, "998 hours")
    assert storage.sweep(10).removed == 1
    connection.execute("UPDATE synk.watched SET at = now()")
    storage.sweep(10)
    assert watched(connection) == []


def test_a_cancelled_job_is_kept_likewise(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job_id = insert(storage, keep=dt.timedelta(minutes=1))
    storage.cancel(job_id)
    pass_time(connection, job_id)

    assert storage.cleaner(JobState.CANCELLED, NOW, limit=10) == 0
    assert storage.sweep(10).removed == 1
    assert storage.get([job_id]) == []


def test_a_job_that_is_not_over_is_not_removed_however_old(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job_id = insert(storage, keep=SECOND)
    connection.execute("UPDATE synk.job SET created_at = now() - interval '8 days'")
    pass_time(connection, job_id)

    assert storage.sweep(10).removed == 0

    next_look = connection.execute("SELECT at - now() FROM synk.watched").fetchone()
    assert next_look is not None
    assert dt.timedelta(days=1) < next_look[0] <= dt.timedelta(days=2)


def test_what_depends_on_a_job_that_was_kept_briefly_runs_all_the_same(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job = begun(storage, keep=SECOND)
    other = insert(storage, scheduled_at=FUTURE)
    behind = insert(storage, depends_on=[job.id, other])
    acknowledge(storage, job)
    pass_time(connection, job.id)
    assert storage.sweep(10).removed == 1
    later = insert(storage, depends_on=[job.id])

    storage.retry(other)
    (next_one, freed) = sorted(claim(storage), key=lambda each: each.id)
    acknowledge(storage, next_one)

    assert (next_one.id, freed.id) == (other, later)
    assert [each.id for each in claim(storage)] == [behind]


def test_for_ever_is_not_watched(storage: PostgresStorage, connection: psycopg.Connection) -> None:
    job = begun(storage, keep=dt.timedelta.max)
    acknowledge(storage, job)
    connection.execute(
        "INSERT INTO synk.job (kind, name, state, finalized_at, keep)"
        " VALUES ('k', 'x', 'completed', now() - interval '9 years', '1000 years')"
    )

    assert watched(connection) == []
    assert storage.cleaner(JobState.COMPLETED, NOW, limit=10) == 0
    assert {row.keep for row in storage.get([1, 2])} == {dt.timedelta.max}


def test_a_retried_job_is_kept_from_its_last_end_on(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    job = begun(storage, keep=dt.timedelta(hours=1))
    acknowledge(storage, job)
    pass_time(connection, job.id)
    assert storage.retry(job.id) is Change.APPLIED

    assert storage.sweep(10).removed == 0
    acknowledge(storage, claim(storage)[0])
    connection.execute("UPDATE synk.watched SET at = now()")

    assert storage.sweep(10).removed == 0


@dataclass
class Kept(synk.JobArgs, kind="kept"):
    pass


@synk.worker(keep=SECOND)
def kept(job: synk.Job[Kept]) -> None:
    pass


def test_a_cleaner_gets_past_very_many_that_are_kept(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    """Also past those that ended in one moment, and goes on where it stopped."""
    connection.execute(
        "INSERT INTO synk.job (kind, name, state, finalized_at, keep)"
        " SELECT 'k', 'x', 'completed', now() - interval '9 days' + n / 2500 * interval '1 s',"
        "        CASE WHEN n % 1000 <> 0 THEN interval '1000 years' END"
        " FROM generate_series(0, 9999) AS n"
    )

    assert storage.cleaner(JobState.COMPLETED, NOW, limit=4) == 4
    first = storage.clean(JobState.COMPLETED, NOW, limit=100)
    again = storage.clean(JobState.COMPLETED, NOW, limit=100, after=first.last)
    assert (first.looked, first.removed, again.last) == (100, 0, first.last)
    assert storage.cleaner(JobState.COMPLETED, NOW, limit=100) == 6
    assert storage.counts() == {JobState.COMPLETED: 9_990}


def test_a_running_cleaner_gets_past_them_too(dsn: str, connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO synk.job (kind, name, state, finalized_at, keep)"
        " SELECT 'k', 'x', 'completed', now() - interval '9 days',"
        "        CASE WHEN n <= 9000 THEN interval '1000 years' END"
        " FROM generate_series(1, 10000) AS n"
    )
    cleaner = synk.CleanerConfig(
        clean_interval=dt.timedelta(milliseconds=1), by_status={JobState.COMPLETED: SECOND}
    )

    with supervised(dsn, cleaner=cleaner) as client:
        left = "SELECT count(*) FROM synk.job"
        wait_until(lambda: connection.execute(left).fetchone() == (9000,), what="the cleaning")
        assert client.get(1) is not None


def test_a_kind_says_for_how_long_its_jobs_are_kept(storage: PostgresStorage) -> None:
    with synk.Client(storage=storage, workers=[kept]) as client:
        usual = client.insert("x", Kept())
        own = client.insert("x", Kept(), synk.InsertOptions(keep=2 * SECOND))

        assert [row.keep for row in storage.get([usual, own])] == [SECOND, 2 * SECOND]


def test_a_running_client_removes_what_was_kept_for_long_enough(
    dsn: str, connection: psycopg.Connection
) -> None:
    with make_client(dsn) as client, supervised(dsn):
        job_id = client.insert("x", handlers.Noop(), synk.InsertOptions(keep=SECOND))
        ended(client, job_id)
        pass_time(connection, job_id)
        wait_until(lambda: client.get(job_id) is None, what="its removal")
