"""The contract: what people may change, and what dependencies mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from synk.claim import AckAnswer, Fence
from synk.errors import UnknownDependency
from synk.insertion import InsertOptions
from synk.row import CancelReason, Change, JobState
from synk.testing.making import (
    CHAIN_LENGTH,
    FUTURE,
    NO_JOB,
    NOW,
    OTHER,
    OWNER,
    WAITING,
    acknowledge,
    begun,
    claim,
    fail,
    get,
    insert,
    job_in,
    new_job,
    outcome_of,
    raised,
    release,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.claim import ClaimedJob
    from synk.storage.base import Storage


class RulesConformance:
    """How jobs are changed, and wait for each other: a test for each promise, hence so many."""

    # -- cancelling -------------------------------------------------------------------------------

    def test_a_job_that_waits_is_cancelled_at_once(self, storage: Storage) -> None:
        for state in WAITING:
            job_id = job_in(storage, state)
            assert storage.cancel(job_id) == Change.APPLIED
            row = get(storage, job_id)
            assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)
            assert row.finalized_at is not None
        assert claim(storage) == []

    def test_a_job_that_is_over_is_not_cancelled(self, storage: Storage) -> None:
        for state in (JobState.COMPLETED, JobState.CANCELLED):
            job_id = job_in(storage, state)
            before = storage.get([job_id])
            assert storage.cancel(job_id) == Change.REFUSED
            assert storage.get([job_id]) == before
        assert storage.cancel(NO_JOB) == Change.GONE

    def test_the_cancel_of_a_running_job_is_told_to_its_owner(self, storage: Storage) -> None:
        storage.insert([new_job(), new_job()])
        job = claim(storage, 1, seq=3)[0]
        other = claim(storage, 1, owner=OTHER, seq=4)[0]

        assert [storage.cancel(job.id) for _ in range(2)] == [Change.REQUESTED] * 2

        assert state_of(storage, job.id) == JobState.RUNNING
        assert storage.cancel_requests(OWNER) == [Fence(job.id, 1, 3)]
        assert storage.cancel_requests(OTHER) == []
        acknowledge(storage, job, state=JobState.CANCELLED, cancel_reason=CancelReason.REQUESTED)
        assert storage.cancel_requests(OWNER) == []
        assert state_of(storage, other.id) == JobState.RUNNING

    def test_a_wanted_cancel_is_granted_when_the_attempt_does_not_complete(
        self, storage: Storage
    ) -> None:
        ends: list[Callable[[ClaimedJob], object]] = [
            lambda job: fail(storage, job, retry_in_s=0),
            lambda job: release(storage, job),
        ]
        for end in ends:
            job = begun(storage)
            storage.cancel(job.id)
            end(job)
            row = get(storage, job.id)
            assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)

    def test_a_cancel_comes_too_late_for_an_attempt_that_completes(self, storage: Storage) -> None:
        job = begun(storage)
        storage.cancel(job.id)

        assert acknowledge(storage, job) == AckAnswer.APPLIED

        assert state_of(storage, job.id) == JobState.COMPLETED
        assert storage.cancel_requests(OWNER) == []

    # -- retrying, deleting, letting go -----------------------------------------------------------

    def test_a_final_or_scheduled_job_is_available_after_a_retry(self, storage: Storage) -> None:
        for state in (JobState.COMPLETED, JobState.CANCELLED, JobState.SCHEDULED):
            job_id = job_in(storage, state)
            before = get(storage, job_id)

            assert storage.retry(job_id) == Change.APPLIED

            row = get(storage, job_id)
            assert (row.state, row.attempt) == (JobState.AVAILABLE, before.attempt)
            assert row.finalized_at is row.cancel_reason is row.cancel_requested_at is None
            assert row.result is None
            assert [job.id for job in claim(storage)] == [job_id]

    def test_no_other_job_is_retried(self, storage: Storage) -> None:
        for state in (JobState.AVAILABLE, JobState.PENDING, JobState.RUNNING):
            job_id = job_in(storage, state)
            before = storage.get([job_id])
            assert storage.retry(job_id) == Change.REFUSED
            assert storage.get([job_id]) == before
        assert storage.retry(NO_JOB) == Change.GONE

    def test_a_retry_adds_one_attempt_to_a_job_that_has_none_left(self, storage: Storage) -> None:
        stale = begun(storage, max_retries=0, seq=1)
        fail(storage, stale, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)

        storage.retry(stale.id)

        job = claim(storage, seq=2)[0]
        assert (job.id, job.attempt, job.max_attempts) == (stale.id, 2, 2)
        assert acknowledge(storage, stale) != AckAnswer.APPLIED
        assert state_of(storage, job.id) == JobState.RUNNING

    def test_a_job_that_is_not_running_can_be_deleted(self, storage: Storage) -> None:
        for state in JobState:
            job_id = job_in(storage, state)
            expected = Change.REFUSED if state is JobState.RUNNING else Change.APPLIED
            assert storage.delete(job_id) == expected
            assert len(storage.get([job_id])) == (state is JobState.RUNNING)
        assert storage.delete(NO_JOB) == Change.GONE

    def test_a_held_job_is_let_go_once(self, storage: Storage) -> None:
        now = insert(storage, pending=True)
        later = insert(storage, pending=True, scheduled_at=FUTURE)

        assert [storage.ready(now), storage.ready(now)] == [Change.APPLIED, Change.REFUSED]
        assert storage.ready(later) == Change.APPLIED

        assert state_of(storage, now) == JobState.AVAILABLE
        assert state_of(storage, later) == JobState.SCHEDULED
        assert storage.ready(job_in(storage, JobState.RUNNING)) == Change.REFUSED
        assert storage.ready(NO_JOB) == Change.GONE

    # -- dependencies -----------------------------------------------------------------------------

    def test_the_last_completion_lets_a_dependent_go(self, storage: Storage) -> None:
        first, second = storage.insert([new_job(), new_job()])
        jobs = {job.id: job for job in claim(storage)}
        child = insert(storage, depends_on=(first, second))
        later = insert(storage, depends_on=(first,), scheduled_at=FUTURE)
        assert get(storage, child).waiting_on == [first, second]

        acknowledge(storage, jobs[first])

        row = get(storage, child)
        assert (row.state, row.waiting_on) == (JobState.PENDING, [second])
        assert state_of(storage, later) == JobState.SCHEDULED
        acknowledge(storage, jobs[second])
        row = get(storage, child)
        assert (row.state, row.waiting_on) == (JobState.AVAILABLE, [])
        assert row.depends_on == [first, second]
        assert json.loads(claim(storage)[0].history or "")["depends_on"] == [first, second]

    def test_one_acknowledgement_can_complete_all_dependencies(self, storage: Storage) -> None:
        parents = storage.insert([new_job() for _ in range(5)])
        child = insert(storage, depends_on=tuple(parents))

        storage.update_job_state(OWNER, [outcome_of(job) for job in claim(storage)])

        assert state_of(storage, child) == JobState.AVAILABLE

    def test_one_job_waits_for_the_last_of_many(self, storage: Storage) -> None:
        parents = storage.insert([new_job() for _ in range(200)])
        child = insert(storage, depends_on=tuple(reversed(parents)))
        jobs = claim(storage, len(parents))
        last = jobs.pop(70)

        for first in range(0, len(jobs), 30):
            outcomes = [outcome_of(job) for job in jobs[first : first + 30]]
            storage.update_job_state(OWNER, outcomes)
            assert state_of(storage, child) == JobState.PENDING

        assert get(storage, child).waiting_on == [last.id]
        acknowledge(storage, last)
        assert state_of(storage, child) == JobState.AVAILABLE

    def test_all_of_many_dependents_follow_one(self, storage: Storage) -> None:
        """Those that are too many for the transaction of its end by `settle`."""
        for end, state in (("complete", JobState.AVAILABLE), ("cancel", JobState.CANCELLED)):
            parent = insert(storage)
            options = InsertOptions(depends_on=(parent,))
            children = storage.insert([new_job(kind="child", options=options) for _ in range(500)])
            if end == "complete":
                acknowledge(storage, claim(storage)[0])
            else:
                storage.cancel(parent)

            while storage.settle(10):
                pass

            assert {row.state for row in storage.get(children)} == {state}

    def test_a_held_dependent_waits_for_both(self, storage: Storage) -> None:
        parent = begun(storage)
        first = insert(storage, depends_on=(parent.id,), pending=True)
        second = insert(storage, depends_on=(parent.id,), pending=True)

        assert storage.ready(first) == Change.APPLIED
        assert state_of(storage, first) == JobState.PENDING
        acknowledge(storage, parent)

        assert state_of(storage, first) == JobState.AVAILABLE
        assert state_of(storage, second) == JobState.PENDING
        assert storage.ready(second) == Change.APPLIED
        assert state_of(storage, second) == JobState.AVAILABLE

    def test_a_failed_attempt_of_a_dependency_decides_nothing(self, storage: Storage) -> None:
        parent = begun(storage)
        child = insert(storage, depends_on=(parent.id,))

        fail(storage, parent, retry_in_s=0)

        assert state_of(storage, child) == JobState.PENDING

    def test_a_dependency_that_never_completes_cancels_all_the_way_down(
        self, storage: Storage
    ) -> None:
        """One that is cancelled, one that is deleted, and one that has failed for good."""

        def fail_for_good(_: int) -> None:
            (job,) = claim(storage)
            fail(storage, job, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)

        ends = ((storage.cancel, CHAIN_LENGTH), (storage.delete, 2), (fail_for_good, 2))
        for end, length in ends:
            first = insert(storage)
            held = insert(storage, depends_on=(first,), pending=True)
            chain = [first]
            for _ in range(length):
                chain.append(insert(storage, depends_on=(chain[-1],)))

            end(first)

            rows = storage.get([held, *chain[1:]])
            assert {row.cancel_reason for row in rows} == {CancelReason.DEPENDENCY}
            assert all(row.finalized_at is not None and not row.waiting_on for row in rows)

    def test_a_completed_or_cleaned_dependency_is_met(self, storage: Storage) -> None:
        parent = job_in(storage, JobState.COMPLETED)
        assert state_of(storage, insert(storage, depends_on=(parent,))) == JobState.AVAILABLE
        assert storage.cleaner(JobState.COMPLETED, NOW, limit=10) == 1

        child = insert(storage, depends_on=(parent,))

        row = get(storage, child)
        assert (row.state, row.depends_on, row.waiting_on) == (JobState.AVAILABLE, [parent], [])

    def test_a_job_under_a_cancelled_dependency_is_cancelled(self, storage: Storage) -> None:
        parents = (job_in(storage, JobState.COMPLETED), job_in(storage, JobState.CANCELLED))

        row = get(storage, insert(storage, depends_on=parents))

        assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.DEPENDENCY)

    def test_a_retried_dependent_waits_again(self, storage: Storage) -> None:
        parent = insert(storage)
        child = insert(storage, depends_on=(parent,))
        storage.cancel(parent)

        assert [storage.retry(job_id) for job_id in (parent, child)] == [Change.APPLIED] * 2

        row = get(storage, child)
        assert (row.state, row.waiting_on) == (JobState.PENDING, [parent])
        assert (row.finalized_at, row.cancel_reason) == (None, None)
        (job,) = claim(storage)
        assert job.id == parent
        acknowledge(storage, job)
        assert [job.id for job in claim(storage)] == [child]

    def test_no_retried_dependent_runs_without_its_dependency(self, storage: Storage) -> None:
        for lose in (storage.cancel, storage.delete):
            parent = insert(storage)
            child = insert(storage, depends_on=(parent,))
            grandchild = insert(storage, depends_on=(child,))
            lose(parent)
            before = storage.get([child, grandchild])

            assert storage.retry(child) == storage.retry(grandchild) == Change.BLOCKED

            assert storage.get([child, grandchild]) == before
            assert claim(storage) == []

    def test_a_retried_dependent_is_cancelled_with_its_dependency(self, storage: Storage) -> None:
        parent = insert(storage)
        child = insert(storage, depends_on=(parent,))
        storage.cancel(parent)
        storage.retry(parent)
        storage.retry(child)

        storage.cancel(parent)

        assert get(storage, child).cancel_reason == CancelReason.DEPENDENCY

    def test_a_dependent_of_completed_jobs_is_available_after_a_retry(
        self, storage: Storage
    ) -> None:
        parent = job_in(storage, JobState.COMPLETED)
        child = insert(storage, depends_on=(parent,))
        storage.cancel(child)
        assert storage.cleaner(JobState.COMPLETED, NOW, limit=10) == 1

        assert storage.retry(child) == Change.APPLIED

        assert state_of(storage, child) == JobState.AVAILABLE

    def test_only_completed_jobs_count_as_completed_once_they_are_removed(
        self, storage: Storage
    ) -> None:
        """However many that completed were removed before and after them."""
        ids = storage.insert([new_job() for _ in range(9)])
        deleted = set(ids[2::3])
        completed = {*ids[::3], ids[2]}
        for job in claim(storage):
            if job.id in completed:
                acknowledge(storage, job)
            elif job.id not in deleted:
                fail(storage, job, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)
            else:
                release(storage, job)
        for job_id in deleted:
            assert storage.delete(job_id) == Change.APPLIED
        assert storage.cleaner(JobState.CANCELLED, NOW, limit=1) == 1
        for _ in range(3):
            storage.cleaner(JobState.COMPLETED, NOW, limit=2)
        storage.cleaner(JobState.CANCELLED, NOW, limit=100)
        assert storage.get(ids) == []

        for job_id in ids:
            if job_id in completed:
                child = insert(storage, depends_on=(job_id,))
                assert state_of(storage, child) == JobState.AVAILABLE
            else:
                error = raised(lambda job_id=job_id: insert(storage, depends_on=(job_id,)))
                assert isinstance(error, UnknownDependency)
