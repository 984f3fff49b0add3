"""Beside the contract: what a storage that has `sweep` does with `start_before` and `keep`."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from synk.row import CancelReason, Change, JobState
from synk.testing.making import (
    FUTURE,
    NOW,
    PAST,
    acknowledge,
    begun,
    claim,
    fail,
    get,
    insert,
    release,
    state_of,
)

if TYPE_CHECKING:
    from synk.storage.base import Storage
    from synk.storage.sweeping import Sweeping

    class SweepingStorage(Storage, Sweeping):
        """Both."""


class SweepingConformance:
    """What becomes of jobs by the time alone."""

    def test_a_job_that_is_too_late_is_claimed_by_nobody_and_expires(
        self, storage: SweepingStorage
    ) -> None:
        late = insert(storage, start_before=PAST)
        assert claim(storage) == []

        swept = storage.sweep(100)

        row = get(storage, late)
        assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.EXPIRED)
        assert row.finalized_at is not None
        assert swept.expired == 1
        assert storage.sweep(100).expired == 0

    def test_a_job_that_is_in_time_is_run_as_others_are(self, storage: SweepingStorage) -> None:
        job = begun(storage, start_before=FUTURE)

        assert storage.sweep(100).expired == 0
        acknowledge(storage, job)

        assert state_of(storage, job.id) is JobState.COMPLETED

    def test_whatever_it_waits_for_it_expires_and_what_waits_for_it_is_cancelled(
        self, storage: SweepingStorage
    ) -> None:
        first = insert(storage, scheduled_at=FUTURE)
        held = insert(storage, pending=True, start_before=PAST)
        behind = insert(storage, depends_on=[first], start_before=PAST)
        last = insert(storage, depends_on=[behind, held])

        assert storage.sweep(100).expired == 2

        reasons = [get(storage, job_id).cancel_reason for job_id in (held, behind, last)]
        assert reasons == [CancelReason.EXPIRED, CancelReason.EXPIRED, CancelReason.DEPENDENCY]
        assert state_of(storage, first) is JobState.SCHEDULED

    def test_a_job_that_is_over_does_not_expire(self, storage: SweepingStorage) -> None:
        job_id = insert(storage, start_before=PAST)
        storage.cancel(job_id)

        assert storage.sweep(100).expired == 0
        assert get(storage, job_id).cancel_reason is CancelReason.REQUESTED

    def test_one_that_has_expired_begins_anew_when_it_is_retried(
        self, storage: SweepingStorage
    ) -> None:
        job_id = insert(storage, start_before=PAST)
        storage.sweep(100)

        assert storage.retry(job_id) is Change.APPLIED

        assert [job.id for job in claim(storage)] == [job_id]

    def test_a_cleaner_leaves_what_has_a_time_of_its_own(self, storage: SweepingStorage) -> None:
        jobs = [begun(storage, keep=keep) for keep in (dt.timedelta.max, dt.timedelta(days=1))]
        plain = begun(storage)
        for job in (*jobs, plain):
            acknowledge(storage, job)

        removed = storage.cleaner(JobState.COMPLETED, NOW, limit=10)

        assert removed == 1
        assert storage.sweep(10).removed == 0
        assert [row.id for row in storage.get([job.id for job in (*jobs, plain)])] == [
            job.id for job in jobs
        ]
        assert get(storage, jobs[0].id).keep == dt.timedelta.max

    def test_a_claim_that_was_given_back_was_no_beginning(self, storage: SweepingStorage) -> None:
        job = begun(storage, start_before=FUTURE)

        release(storage, job)

        assert get(storage, job.id).start_before == FUTURE
        (again,) = claim(storage)
        fail(storage, again, retry_at=PAST)
        assert state_of(storage, job.id) is JobState.SCHEDULED
