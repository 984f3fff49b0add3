"""The conformance suite of the Storage contract, for those who write a storage of their own.

    from synk.testing import StorageConformance

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def storage(self):
            yield MyStorage(...)   # empty

Every test gets an empty `storage` and asks only what `synk.storage.base` promises. It needs no
settable clock and does not sleep: jobs are made due by giving them times in the past.

pytest is not imported here. Its assertion rewriting covers this module after
``pytest.register_assert_rewrite("synk.testing")``.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from synk.errors import UnknownDependency
from synk.failure import AttemptError
from synk.job import (
    AckAnswer,
    CancelReason,
    Change,
    Fence,
    InsertOptions,
    JobState,
    NewJob,
    Outcome,
    Priority,
)
from synk.storage.statements import client_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from synk.job import ClaimedJob, JobRow
    from synk.storage.base import Storage

__all__ = ["StorageConformance"]

PAST: Final = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
FUTURE: Final = dt.datetime(2101, 1, 1, tzinfo=dt.UTC)
NOW: Final = dt.timedelta(0)
AN_HOUR: Final = dt.timedelta(hours=1)
OWNER: Final = uuid.UUID("0193c5b0-0000-7000-8000-000000000001")
OTHER: Final = uuid.UUID("0193c5b0-0000-7000-8000-000000000002")
NO_JOB: Final = 999_999_999
CHAIN_LENGTH: Final = 300
WAITING: Final = (JobState.AVAILABLE, JobState.SCHEDULED, JobState.PENDING)


class StorageConformance:
    """What every `Storage` must do. Subclasses give a pytest fixture ``storage``."""

    # -- inserting --------------------------------------------------------------------------------

    def test_a_storage_that_is_ready_answers_a_ping(self, storage: Storage) -> None:
        storage.ping()

    def test_inserted_jobs_get_ascending_ids_in_their_order(self, storage: Storage) -> None:
        names = [f"job {number}" for number in range(500)]

        ids = storage.insert([new_job(name=name) for name in names])

        assert ids == sorted(set(ids))
        assert [row.name for row in storage.get(ids)] == names

    def test_a_row_says_what_was_inserted(self, storage: Storage) -> None:
        options = InsertOptions(
            queue="slow", priority=Priority.HIGH, max_retries=2, scheduled_at=FUTURE
        )
        args = '{"a": [1, 2.5, null], "ü": "\\u2028"}'

        row = get(storage, insert(storage, options, name="näme", kind="other", args=args))

        assert (row.name, row.kind, row.queue, row.priority) == ("näme", "other", "slow", 2)
        assert (row.args, row.scheduled_at) == (json.loads(args), FUTURE)
        assert (row.attempt, row.max_attempts, row.uncounted) == (0, 3, 0)
        assert (row.attempted_by, row.errors, row.depends_on, row.waiting_on) == ([], [], [], [])
        assert row.finalized_at is row.attempted_at is row.cancel_reason is row.result is None

    def test_a_job_starts_in_the_state_that_its_options_mean(self, storage: Storage) -> None:
        assert state_of(storage, insert(storage)) == JobState.AVAILABLE
        assert state_of(storage, insert(storage, scheduled_at=PAST)) == JobState.AVAILABLE
        assert state_of(storage, insert(storage, scheduled_at=FUTURE)) == JobState.SCHEDULED
        assert state_of(storage, insert(storage, pending=True)) == JobState.PENDING
        assert (
            state_of(storage, insert(storage, pending=True, scheduled_at=FUTURE))
            == JobState.PENDING
        )

    def test_jobs_are_stored_all_or_none(self, storage: Storage) -> None:
        bad = InsertOptions(depends_on=(NO_JOB,))

        error = raised(lambda: storage.insert([new_job(), new_job(options=bad), new_job()]))

        assert isinstance(error, UnknownDependency)
        assert error.value == NO_JOB
        assert storage.counts() == {}

    # -- claiming ---------------------------------------------------------------------------------

    def test_the_most_urgent_jobs_are_claimed_first(self, storage: Storage) -> None:
        hour = dt.timedelta(hours=1)
        wanted = [(4, PAST), (1, PAST + hour), (3, PAST), (1, PAST), (1, PAST), (3, PAST - hour)]
        ids = [
            insert(storage, priority=Priority(priority), scheduled_at=at) for priority, at in wanted
        ]

        order = [claim(storage, limit)[0].id for limit in [1] * len(ids)]

        assert order == [ids[index] for index in (3, 4, 1, 5, 2, 0)]

    def test_one_claim_comes_in_the_order_of_urgency(self, storage: Storage) -> None:
        ids = [insert(storage, priority=Priority(number % 4 + 1)) for number in range(40)]

        claimed = claim(storage, 20)

        assert [job.id for job in claimed] == [*ids[0::4], *ids[1::4]]

    def test_a_claim_takes_at_most_its_limit(self, storage: Storage) -> None:
        storage.insert([new_job() for _ in range(5)])

        assert [len(claim(storage, 2)) for _ in range(4)] == [2, 2, 1, 0]

    def test_only_due_jobs_of_the_queue_and_the_kinds_are_claimed(self, storage: Storage) -> None:
        insert(storage, queue="slow")
        insert(storage, kind="unknown")
        insert(storage, scheduled_at=FUTURE)
        insert(storage, pending=True)
        wanted = [insert(storage), insert(storage, kind="second")]

        claimed = claim(storage, kinds=["kind", "second"])

        assert [job.id for job in claimed] == wanted
        assert claim(storage, kinds=[]) == []

    def test_a_claimed_job_says_what_its_row_says(self, storage: Storage) -> None:
        job_id = insert(storage, args='{"a": 1}', name="a job", max_retries=2)

        job = claim(storage, seq=7)[0]

        row = get(storage, job_id)
        assert (row.state, row.attempt, row.attempted_by) == (
            JobState.RUNNING,
            1,
            [client_id_of(OWNER)],
        )
        assert (job.id, job.attempt, job.claim_seq, job.kind, job.queue, job.name) == (
            *(job_id, 1, 7, "kind", "default"),
            "a job",
        )
        assert (json.loads(job.args), job.max_attempts, job.uncounted) == ({"a": 1}, 3, 0)
        assert (job.priority, job.scheduled_at) == (row.priority, row.scheduled_at)
        assert (job.created_at, job.attempted_at) == (row.created_at, row.attempted_at)
        assert job.history is None

    def test_a_later_attempt_is_told_of_those_before(self, storage: Storage) -> None:
        insert(storage)
        fail(storage, claim(storage)[0], retry_in_s=0)
        storage.stage(10)

        job = claim(storage, owner=OTHER)[0]

        past = json.loads(job.history or "")
        assert past["attempted_by"] == [client_id_of(OWNER), client_id_of(OTHER)]
        assert [error["error"] for error in past["errors"]] == ["ValueError: 1"]
        assert job.attempt == 2

    def test_no_job_is_claimed_twice_by_threads_at_once(self, storage: Storage) -> None:
        ids = storage.insert([new_job() for _ in range(200)])
        claimed: list[int] = []
        start = threading.Barrier(4)

        def take(owner: uuid.UUID) -> None:
            start.wait()
            while jobs := claim(storage, 7, owner=owner):
                claimed.extend(job.id for job in jobs)

        threads = [threading.Thread(target=take, args=(uuid.uuid4(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(claimed) == ids

    # -- acknowledging ----------------------------------------------------------------------------

    def test_a_completed_outcome_ends_the_job(self, storage: Storage) -> None:
        insert(storage)
        job = claim(storage)[0]

        answer = acknowledge(
            storage, job, result='{"pages": 3}', duration_us=2_000_000, cpu_us=1_000_000
        )

        row = get(storage, job.id)
        assert answer == AckAnswer.APPLIED
        assert (row.state, row.result, row.cancel_reason) == (
            JobState.COMPLETED,
            {"pages": 3},
            None,
        )
        assert (row.duration, row.cpu_time) == (dt.timedelta(seconds=2), dt.timedelta(seconds=1))
        assert row.finalized_at is not None

    def test_an_outcome_outside_its_fence_changes_nothing(self, storage: Storage) -> None:
        insert(storage)
        job = claim(storage, seq=5)[0]
        before = storage.get([job.id])

        for owner, attempt, seq in [(OTHER, 1, 5), (OWNER, 0, 5), (OWNER, 2, 5), (OWNER, 1, 6)]:
            outcome = Outcome(id=job.id, attempt=attempt, claim_seq=seq)
            assert storage.update_job_state(owner, [outcome]) == [AckAnswer.FENCED]
            assert storage.get([job.id]) == before
        assert acknowledge(storage, job) == AckAnswer.APPLIED

    def test_an_outcome_of_an_earlier_attempt_is_fenced(self, storage: Storage) -> None:
        insert(storage)
        stale = claim(storage, seq=1)[0]
        assert storage.release_claim(OWNER, 1) == 1
        job = claim(storage, seq=2)[0]
        before = storage.get([job.id])

        assert acknowledge(storage, stale) == AckAnswer.FENCED
        assert storage.get([job.id]) == before

    def test_a_repeated_outcome_is_a_duplicate_and_changes_nothing(self, storage: Storage) -> None:
        insert(storage)
        job = claim(storage)[0]
        acknowledge(storage, job, result="1")
        before = storage.get([job.id])

        assert acknowledge(storage, job, result="2") == AckAnswer.DUPLICATE
        assert storage.get([job.id]) == before

    def test_an_outcome_of_a_job_that_is_not_there_is_gone(self, storage: Storage) -> None:
        outcome = Outcome(id=NO_JOB, attempt=1, claim_seq=1)

        assert storage.update_job_state(OWNER, [outcome]) == [AckAnswer.GONE]

    def test_answers_come_in_the_order_of_the_outcomes(self, storage: Storage) -> None:
        storage.insert([new_job() for _ in range(3)])
        first, second, third = claim(storage)
        acknowledge(storage, second)
        outcomes = [outcome_of(job) for job in (third, second, first)]
        outcomes[2].claim_seq += 1
        outcomes.append(Outcome(id=NO_JOB, attempt=1, claim_seq=1))

        answers = storage.update_job_state(OWNER, outcomes)

        # In such a mixture, an outcome that was applied now may read as one applied before.
        assert answers[0] in {AckAnswer.APPLIED, AckAnswer.DUPLICATE}
        assert answers[1:] == [AckAnswer.DUPLICATE, AckAnswer.FENCED, AckAnswer.GONE]
        assert state_of(storage, third.id) == JobState.COMPLETED
        assert state_of(storage, first.id) == JobState.RUNNING

    def test_two_attempts_of_one_job_are_answered_each(self, storage: Storage) -> None:
        insert(storage)
        stale = claim(storage, owner=OTHER, seq=1)[0]
        storage.release_claim(OTHER, 1)
        job = claim(storage, seq=2)[0]

        for outcomes in ([stale, job], [job, stale]):
            answers = storage.update_job_state(OWNER, [outcome_of(job) for job in outcomes])
            settled = answers[outcomes.index(job)]
            assert settled in {AckAnswer.APPLIED, AckAnswer.DUPLICATE}
            assert answers[outcomes.index(stale)] == AckAnswer.FENCED

    def test_a_failed_attempt_waits_for_its_retry(self, storage: Storage) -> None:
        insert(storage)
        job = claim(storage)[0]

        assert fail(storage, job, retry_in_s=3600) == AckAnswer.APPLIED

        row = get(storage, job.id)
        ended = row.errors[0].at
        assert ended is not None
        assert (row.state, row.scheduled_at) == (JobState.SCHEDULED, ended + AN_HOUR)
        assert [(error.attempt, error.error) for error in row.errors] == [(1, "ValueError: 1")]
        assert (row.attempt, row.finalized_at) == (1, None)
        assert (storage.stage(10), claim(storage)) == (0, [])

    def test_a_time_for_the_retry_wins_over_a_wait(self, storage: Storage) -> None:
        insert(storage)
        job = claim(storage)[0]

        fail(storage, job, retry_at=FUTURE, retry_in_s=0)

        assert get(storage, job.id).scheduled_at == FUTURE

    def test_a_released_attempt_is_not_charged(self, storage: Storage) -> None:
        insert(storage, max_retries=0)
        job = claim(storage)[0]

        acknowledge(storage, job, state=JobState.AVAILABLE, uncharged=True)

        again = claim(storage)[0]
        assert (again.id, again.attempt, again.uncounted, again.charged) == (job.id, 2, 1, 1)

    def test_the_last_failure_ends_the_job(self, storage: Storage) -> None:
        insert(storage)
        job = claim(storage)[0]

        fail(storage, job, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)

        row = get(storage, job.id)
        assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.FAILED)
        assert row.finalized_at is not None
        assert len(row.errors) == 1

    def test_the_last_20_errors_are_kept(self, storage: Storage) -> None:
        job_id = insert(storage, max_retries=50)
        for seq in range(1, 24):
            fail(storage, claim(storage, seq=seq)[0], retry_in_s=0)
            assert storage.stage(1) == 1

        row = get(storage, job_id)

        assert [error.attempt for error in row.errors] == list(range(4, 24))
        assert row.attempt == 23

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
            lambda job: acknowledge(storage, job, state=JobState.AVAILABLE, uncharged=True),
            lambda job: storage.release_claim(OWNER, job.claim_seq),
        ]
        for end in ends:
            insert(storage)
            job = claim(storage)[0]
            storage.cancel(job.id)
            end(job)
            row = get(storage, job.id)
            assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)

    def test_a_cancel_comes_too_late_for_an_attempt_that_completes(self, storage: Storage) -> None:
        insert(storage)
        job = claim(storage)[0]
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
        insert(storage, max_retries=0)
        stale = claim(storage, seq=1)[0]
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
        now, later = (
            insert(storage, pending=True),
            insert(storage, pending=True, scheduled_at=FUTURE),
        )

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

    def test_a_held_dependent_waits_for_both(self, storage: Storage) -> None:
        insert(storage)
        parent = claim(storage)[0]
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
        insert(storage)
        parent = claim(storage)[0]
        child = insert(storage, depends_on=(parent.id,))

        fail(storage, parent, retry_in_s=0)

        assert state_of(storage, child) == JobState.PENDING

    def test_a_cancelled_dependency_cancels_all_the_way_down(self, storage: Storage) -> None:
        first = insert(storage)
        held = insert(storage, depends_on=(first,), pending=True)
        chain = [first]
        for _ in range(CHAIN_LENGTH):
            chain.append(insert(storage, depends_on=(chain[-1],)))

        storage.cancel(first)

        rows = storage.get([held, *chain[1:]])
        assert {row.cancel_reason for row in rows} == {CancelReason.DEPENDENCY}
        assert all(row.finalized_at is not None and not row.waiting_on for row in rows)
        assert storage.counts() == {JobState.CANCELLED: CHAIN_LENGTH + 2}

    def test_a_dependency_that_fails_for_good_cancels_its_dependents(
        self, storage: Storage
    ) -> None:
        insert(storage)
        parent = claim(storage)[0]
        child = insert(storage, depends_on=(parent.id,))

        fail(storage, parent, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)

        assert get(storage, child).cancel_reason == CancelReason.DEPENDENCY

    def test_a_deleted_dependency_cancels_its_dependents(self, storage: Storage) -> None:
        parent = insert(storage, scheduled_at=FUTURE)
        child = insert(storage, depends_on=(parent,))
        grandchild = insert(storage, depends_on=(child,))

        storage.delete(parent)

        assert get(storage, child).cancel_reason == CancelReason.DEPENDENCY
        assert get(storage, grandchild).cancel_reason == CancelReason.DEPENDENCY

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

    def test_a_retried_dependent_does_not_wait_again(self, storage: Storage) -> None:
        parent = insert(storage)
        child = insert(storage, depends_on=(parent,))
        storage.cancel(parent)

        assert storage.retry(child) == Change.APPLIED

        assert [job.id for job in claim(storage)] == [child]

    # -- maintenance ------------------------------------------------------------------------------

    def test_due_jobs_are_staged_up_to_the_limit(self, storage: Storage) -> None:
        storage.insert([new_job() for _ in range(3)])
        storage.update_job_state(
            OWNER, [outcome_of(job, JobState.SCHEDULED, retry_in_s=0) for job in claim(storage)]
        )
        insert(storage, scheduled_at=FUTURE)

        assert [storage.stage(2), storage.stage(2), storage.stage(2)] == [2, 1, 0]
        assert storage.counts() == {JobState.AVAILABLE: 3, JobState.SCHEDULED: 1}

    def test_the_cleaner_removes_what_ended_long_enough_ago(self, storage: Storage) -> None:
        for state in JobState:
            job_in(storage, state)

        assert storage.cleaner(JobState.COMPLETED, AN_HOUR, limit=10) == 0
        assert storage.cleaner(JobState.COMPLETED, NOW, limit=10) == 1
        assert storage.cleaner(JobState.CANCELLED, NOW, limit=10) == 1
        assert storage.counts() == dict.fromkeys([*WAITING, JobState.RUNNING], 1)

    def test_the_cleaner_removes_at_most_its_limit_the_oldest_first(self, storage: Storage) -> None:
        ids = [job_in(storage, JobState.CANCELLED) for _ in range(5)]

        assert storage.cleaner(JobState.CANCELLED, NOW, limit=3) == 3
        assert [row.id for row in storage.get(ids)] == ids[3:]

    def test_a_claim_whose_answer_was_lost_is_given_back(self, storage: Storage) -> None:
        storage.insert([new_job(options=InsertOptions(max_retries=0)) for _ in range(4)])
        lost = claim(storage, 2, seq=1)
        claim(storage, 1, seq=2)
        claim(storage, 1, owner=OTHER, seq=1)

        assert [storage.release_claim(OWNER, 1), storage.release_claim(OWNER, 1)] == [2, 0]

        assert storage.counts() == {JobState.AVAILABLE: 2, JobState.RUNNING: 2}
        again = claim(storage, seq=3)
        assert [(job.id, job.attempt, job.charged) for job in again] == [
            (job.id, 2, 1) for job in lost
        ]

    def test_waiting_for_a_hint_ends_in_time(self, storage: Storage) -> None:
        with storage.announcements(OWNER) as announcements:
            began = time.monotonic()
            heard = announcements.wait(0.01)

        assert heard in {True, False}
        assert time.monotonic() - began < 5

    # -- looking ----------------------------------------------------------------------------------

    def test_rows_come_by_id_and_missing_ones_are_left_out(self, storage: Storage) -> None:
        ids = storage.insert([new_job() for _ in range(3)])

        assert [row.id for row in storage.get([ids[2], NO_JOB, ids[0]])] == [ids[0], ids[2]]
        assert storage.get([]) == []

    def test_jobs_are_listed_newest_first_by_what_is_asked(self, storage: Storage) -> None:
        first = insert(storage)
        slow = insert(storage, queue="slow", scheduled_at=FUTURE)
        other = insert(storage, queue="slow", kind="other")

        assert listed(storage) == [other, slow, first]
        assert listed(storage, limit=2) == [other, slow]
        assert listed(storage, state=JobState.AVAILABLE) == [other, first]
        assert listed(storage, queue="slow", kind="kind") == [slow]
        assert listed(storage, state=JobState.RUNNING) == []

    def test_counts_are_by_state_and_queue(self, storage: Storage) -> None:
        storage.insert([new_job(), new_job()])
        insert(storage, queue="slow")
        insert(storage, queue="slow", scheduled_at=FUTURE)

        assert storage.counts() == {JobState.AVAILABLE: 3, JobState.SCHEDULED: 1}
        assert storage.counts("slow") == {JobState.AVAILABLE: 1, JobState.SCHEDULED: 1}
        assert storage.counts("none") == {}

    def test_a_summary_says_what_the_kinds_took(self, storage: Storage) -> None:
        storage.insert([new_job() for _ in range(6)])
        *done, failed = claim(storage, 5)
        for seconds, job in enumerate(done, 1):
            acknowledge(storage, job, duration_us=seconds * 1_000_000, cpu_us=500_000)
        fail(storage, failed, state=JobState.CANCELLED, cancel_reason=CancelReason.FAILED)
        insert(storage, kind="another")

        another, kind = storage.summary()

        assert (kind.kind, kind.completed, kind.cancelled, kind.unfinished, kind.errors) == (
            *("kind", 4, 1, 1),
            1,
        )
        assert kind.cpu_time == dt.timedelta(seconds=2)
        assert kind.duration_p95 == dt.timedelta(seconds=4)
        assert (another.kind, another.unfinished, another.duration_p50) == ("another", 1, None)
        assert storage.summary("none") == []


def new_job(
    *,
    name: str = "name",
    kind: str = "kind",
    args: str = "{}",
    options: InsertOptions | None = None,
) -> NewJob:
    """Returns a job to insert."""
    return NewJob(name=name, kind=kind, args=args, options=options or InsertOptions())


def insert(
    storage: Storage,
    options: InsertOptions | None = None,
    *,
    name: str = "name",
    kind: str = "kind",
    args: str = "{}",
    **changed: Any,
) -> int:
    """Inserts one job, with the options in *changed*; returns its id."""
    options = options or InsertOptions(**changed)
    return storage.insert([new_job(name=name, kind=kind, args=args, options=options)])[0]


def get(storage: Storage, job_id: int) -> JobRow:
    """Returns the row of one job, which must exist."""
    (row,) = storage.get([job_id])
    return row


def state_of(storage: Storage, job_id: int) -> JobState:
    """Returns the state of one job, which must exist."""
    return get(storage, job_id).state


def listed(storage: Storage, **filters: Any) -> list[int]:
    """Returns the ids that `Storage.jobs` lists."""
    wanted: dict[str, Any] = {"state": None, "queue": None, "kind": None, "limit": 100, **filters}
    return [row.id for row in storage.jobs(**wanted)]


def claim(
    storage: Storage,
    limit: int = 100,
    *,
    owner: uuid.UUID = OWNER,
    seq: int = 1,
    kinds: Sequence[str] = ("kind",),
) -> list[ClaimedJob]:
    """Claims from the default queue."""
    return storage.get_job_available("default", limit, kinds=kinds, owner=owner, claim_seq=seq)


def outcome_of(job: ClaimedJob, state: JobState = JobState.COMPLETED, **changed: Any) -> Outcome:
    """Returns an outcome for *job*."""
    return Outcome(job.id, job.attempt, job.claim_seq, state=state, **changed)


def acknowledge(
    storage: Storage, job: ClaimedJob, *, state: JobState = JobState.COMPLETED, **changed: Any
) -> AckAnswer:
    """Acknowledges one job as `OWNER`."""
    (answer,) = storage.update_job_state(OWNER, [outcome_of(job, state, **changed)])
    return answer


def fail(
    storage: Storage, job: ClaimedJob, *, state: JobState = JobState.SCHEDULED, **changed: Any
) -> AckAnswer:
    """Acknowledges a failed attempt as `OWNER`."""
    error = AttemptError(attempt=job.attempt, error=f"ValueError: {job.attempt}").to_json()
    return acknowledge(storage, job, state=state, error=error, **changed)


def job_in(storage: Storage, state: JobState) -> int:
    """Makes a job in *state*; returns its id."""
    match state:
        case JobState.AVAILABLE:
            return insert(storage, kind="left alone")
        case JobState.SCHEDULED:
            return insert(storage, scheduled_at=FUTURE)
        case JobState.PENDING:
            return insert(storage, pending=True)
        case JobState.CANCELLED:
            job_id = insert(storage)
            storage.cancel(job_id)
            return job_id
        case JobState.RUNNING | JobState.COMPLETED:
            job_id = insert(storage, priority=Priority.CRITICAL, scheduled_at=PAST)
            (job,) = claim(storage, 1)
            if state is JobState.COMPLETED:
                acknowledge(storage, job, result="1")
            return job_id


def raised(call: Callable[[], object]) -> Exception | None:
    """Returns what *call* raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - the caller looks at it
        return error
    return None
