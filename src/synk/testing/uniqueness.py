"""The contract of unique jobs, for storages that know them."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from synk.errors import NotUnique
from synk.insertion import InsertOptions
from synk.row import CancelReason, Change, JobState
from synk.testing.making import (
    FUTURE,
    NOW,
    OWNER,
    acknowledge,
    claim,
    fail,
    get,
    new_job,
    raised,
    register,
    release,
)
from synk.unique import Unique

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from synk.claim import ClaimedJob
    from synk.insertion import NewJob
    from synk.row import JobRow
    from synk.unique import Inserted


def _job(tenant: str = "t", number: int = 0, **said: Any) -> NewJob:
    """Returns a job that is unique by its tenant."""
    fields = ("by", "until", "period", "on_conflict")
    unique: dict[str, Any] = {name: said.pop(name) for name in fields if name in said}
    unique.setdefault("by", ("args.tenant",))
    options = InsertOptions(unique=Unique(**unique), **said)
    return new_job(args=json.dumps({"tenant": tenant, "number": number}), options=options)


def _insert(storage: Any, *jobs: NewJob) -> list[tuple[int, bool | None]]:
    ids: Sequence[Inserted] = storage.insert_unique(jobs)
    return [(int(job_id), job_id.existed) for job_id in ids]


def _in_scope(row: JobRow) -> int | None:
    assert row.unique is not None
    return row.unique.job_id


class UniquenessConformance:
    """What a storage with unique jobs must do. Subclasses give a pytest fixture ``storage``."""

    def test_the_second_of_a_scope_meets_the_first(self, storage: Any) -> None:
        first, again, other = _insert(storage, _job(), _job(number=2), _job("u"))
        (later,) = _insert(storage, _job())

        assert (first[1], again, other[1], later) == (
            False, (first[0], True), False, (first[0], True),
        )  # fmt: skip
        assert len(claim(storage)) == 2

    def test_jobs_that_are_not_unique_may_be_among_them(self, storage: Any) -> None:
        first, plain, again = _insert(storage, _job(), new_job(), _job())

        assert first[0] == again[0] != plain[0]
        assert get(storage, plain[0]).unique is None

    def test_a_job_that_waits_is_replaced(self, storage: Any) -> None:
        (first,) = _insert(storage, _job(scheduled_at=FUTURE))
        replaced = _insert(storage, _job(number=7, on_conflict="replace"))

        row = get(storage, first[0])
        assert replaced == [(first[0], True)]
        assert (row.args, row.state) == ({"tenant": "t", "number": 7}, JobState.AVAILABLE)

    def test_a_job_that_runs_is_not_replaced(self, storage: Any) -> None:
        ((first, _),) = _insert(storage, _job(until="finished"))
        claim(storage)

        error = raised(lambda: _insert(storage, _job(number=7, on_conflict="replace")))

        assert isinstance(error, NotUnique)
        assert error.job_id == first
        assert get(storage, first).args == {"tenant": "t", "number": 0}

    def test_where_an_insert_raises_nothing_is_stored(self, storage: Any) -> None:
        ((first, _),) = _insert(storage, _job())

        error = raised(lambda: _insert(storage, _job("u"), _job(on_conflict="raise")))

        assert isinstance(error, NotUnique)
        assert error.job_id == first
        assert [job.id for job in claim(storage)] == [first]

    def test_periods_are_those_of_the_time_of_the_job(self, storage: Any) -> None:
        day = dt.timedelta(days=1)
        times = [FUTURE, FUTURE + day - dt.timedelta(microseconds=1), FUTURE + day]

        found = _insert(storage, *(_job(period=day, scheduled_at=at) for at in times))

        assert [existed for _, existed in found] == [False, True, False]

    def test_a_claimed_job_has_left_its_scope_for_good(self, storage: Any) -> None:
        register(storage, OWNER)
        ends: list[Callable[[ClaimedJob], object]] = [
            lambda job: fail(storage, job, retry_in_s=0),
            lambda job: release(storage, job),
            lambda job: acknowledge(storage, job),
        ]
        for number, end in enumerate(ends):
            ((first, _),) = _insert(storage, _job(str(number)))
            (job,) = [each for each in claim(storage) if each.id == first]
            ((second, existed),) = _insert(storage, _job(str(number)))
            end(job)
            storage.stage(10)

            assert existed is False
            assert _in_scope(get(storage, first)) == second
            storage.delete(first)
            storage.delete(second)

    def test_until_it_is_finished_no_attempt_ends_it(self, storage: Any) -> None:
        ((first, _),) = _insert(storage, _job(until="finished"))
        fail(storage, claim(storage)[0], retry_in_s=0)
        storage.stage(10)
        release(storage, claim(storage)[0])
        job = claim(storage)[0]
        assert _insert(storage, _job()) == [(first, True)]

        acknowledge(storage, job)

        assert _insert(storage, _job())[0][1] is False

    def test_who_is_cancelled_or_deleted_keeps_nobody_out(self, storage: Any) -> None:
        for end in (storage.cancel, storage.delete):
            ((first, _),) = _insert(storage, _job(end.__name__, pending=True))
            end(first)
            assert _insert(storage, _job(end.__name__))[0][1] is False

    def test_a_retry_takes_the_scope_again_or_is_refused(self, storage: Any) -> None:
        ((first, _),) = _insert(storage, _job())
        failed = CancelReason.FAILED
        fail(storage, claim(storage)[0], state=JobState.CANCELLED, cancel_reason=failed)
        ((second, _),) = _insert(storage, _job())

        assert storage.retry(first) == Change.NOT_UNIQUE
        storage.cancel(second)
        assert storage.retry(first) == Change.APPLIED

        assert _insert(storage, _job()) == [(first, True)]
        assert storage.retry(second) == Change.NOT_UNIQUE
        assert storage.cleaner(JobState.CANCELLED, NOW, limit=10) == 1
