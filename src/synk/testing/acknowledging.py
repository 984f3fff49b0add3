"""The contract: what an outcome does, and what it must not do."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from typing import TYPE_CHECKING

from synk.claim import AckAnswer, Outcome
from synk.row import CancelReason, JobState
from synk.storage.base import Hints
from synk.testing.making import (
    AN_HOUR,
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
    release,
    snooze,
    state_of,
)

if TYPE_CHECKING:
    from synk.storage.base import Storage


class AcknowledgingConformance:
    """How attempts end: a test for each promise, hence so many."""

    # -- acknowledging ----------------------------------------------------------------------------

    def test_a_completed_outcome_ends_the_job(self, storage: Storage) -> None:
        job = begun(storage)

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
        job = begun(storage, seq=5)
        before = storage.get([job.id])

        for owner, attempt, seq in [(OTHER, 1, 5), (OWNER, 0, 5), (OWNER, 2, 5), (OWNER, 1, 6)]:
            outcome = Outcome(id=job.id, attempt=attempt, claim_seq=seq)
            assert storage.update_job_state(owner, [outcome]) == [AckAnswer.FENCED]
            assert storage.get([job.id]) == before
        assert acknowledge(storage, job) == AckAnswer.APPLIED

    def test_an_outcome_of_an_earlier_attempt_is_fenced(self, storage: Storage) -> None:
        stale = begun(storage, seq=1)
        release(storage, stale)
        job = claim(storage, owner=OTHER, seq=2)[0]
        release(storage, job, owner=OTHER)
        job = claim(storage, owner=OTHER, seq=3)[0]
        before = storage.get([job.id])

        assert acknowledge(storage, stale) == AckAnswer.FENCED
        assert storage.get([job.id]) == before

    def test_a_repeated_outcome_is_a_duplicate_and_changes_nothing(self, storage: Storage) -> None:
        job = begun(storage)
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
        stale = begun(storage, owner=OTHER, seq=1)
        release(storage, stale, owner=OTHER)
        job = claim(storage, seq=2)[0]

        for outcomes in ([stale, job], [job, stale]):
            answers = storage.update_job_state(OWNER, [outcome_of(job) for job in outcomes])
            settled = answers[outcomes.index(job)]
            assert settled in {AckAnswer.APPLIED, AckAnswer.DUPLICATE}
            assert answers[outcomes.index(stale)] == AckAnswer.FENCED

    def test_a_failed_attempt_waits_for_its_retry(self, storage: Storage) -> None:
        job = begun(storage)

        assert fail(storage, job, retry_in_s=3600) == AckAnswer.APPLIED

        row = get(storage, job.id)
        ended = row.errors[0].at
        assert ended is not None
        assert (row.state, row.scheduled_at) == (JobState.SCHEDULED, ended + AN_HOUR)
        assert [(error.attempt, error.error) for error in row.errors] == [(1, "ValueError: 1")]
        assert (row.attempt, row.finalized_at) == (1, None)
        assert (storage.stage(10), claim(storage)) == (0, [])

    def test_a_time_for_the_retry_wins_over_a_wait(self, storage: Storage) -> None:
        job = begun(storage)

        fail(storage, job, retry_at=FUTURE, retry_in_s=0)

        assert get(storage, job.id).scheduled_at == FUTURE

    def test_a_released_attempt_is_not_charged(self, storage: Storage) -> None:
        job = begun(storage, max_retries=0)

        acknowledge(storage, job, state=JobState.AVAILABLE, uncharged=True)

        again = claim(storage)[0]
        assert (again.id, again.attempt, again.uncounted, again.charged) == (job.id, 2, 1, 1)

    def test_a_job_that_snoozes_waits_uncharged_without_an_error(self, storage: Storage) -> None:
        job = begun(storage, max_retries=0, meta={"mine": 1})

        snooze(storage, job, delay_s=3600, snoozes=1, checkpoint='{"page": 3}', output="said")

        row = get(storage, job.id)
        assert row.attempted_at is not None
        assert row.scheduled_at - row.attempted_at >= AN_HOUR
        assert (row.state, row.attempt, row.uncounted, row.errors) == (JobState.SCHEDULED, 1, 1, [])
        assert (row.checkpoint, row.output, row.cancel_reason) == ({"page": 3}, "said", None)
        assert (row.snoozes, row.meta) == (1, {"mine": 1, "snoozes": 1})
        assert (storage.stage(10), claim(storage)) == (0, [])

    def test_a_job_that_snoozes_for_no_time_goes_behind_what_waits(self, storage: Storage) -> None:
        job = begun(storage)
        other = insert(storage)

        snooze(storage, job, delay_s=0, snoozes=1)

        (first,), (second,) = claim(storage, 1, seq=2), claim(storage, 1, seq=3)
        assert (first.id, second.id) == (other, job.id)
        assert (second.attempt, second.charged) == (2, 1)

    def test_how_often_a_job_has_snoozed_is_what_it_said_last(self, storage: Storage) -> None:
        job = begun(storage)
        for number in (1, 2, 3):
            snooze(storage, job, delay_s=0, snoozes=number)
            (job,) = claim(storage, seq=number + 1)

        assert json.loads(job.history or "{}")["meta"] == {"snoozes": 3}
        acknowledge(storage, job)
        assert get(storage, job.id).snoozes == 3

    def test_a_cancel_that_came_meanwhile_wins_over_a_snooze(self, storage: Storage) -> None:
        for delay_s in (0, 3600):
            job = begun(storage)
            storage.cancel(job.id)

            snooze(storage, job, delay_s=delay_s, snoozes=1)

            row = get(storage, job.id)
            assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)

    def test_what_depends_on_a_job_that_its_handler_cancels_is_cancelled(
        self, storage: Storage
    ) -> None:
        job = begun(storage)
        child = insert(storage, depends_on=(job.id,))

        fail(storage, job, state=JobState.CANCELLED, cancel_reason=CancelReason.HANDLER)

        assert get(storage, job.id).cancel_reason is CancelReason.HANDLER
        assert get(storage, child).cancel_reason is CancelReason.DEPENDENCY

    def test_the_last_failure_ends_the_job(self, storage: Storage) -> None:
        job = begun(storage)

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

    # -- maintenance ------------------------------------------------------------------------------

    def test_due_jobs_are_staged_up_to_the_limit(self, storage: Storage) -> None:
        ids = storage.insert([new_job() for _ in range(3)])
        storage.update_job_state(
            OWNER, [outcome_of(job, JobState.SCHEDULED, retry_in_s=0) for job in claim(storage)]
        )
        later = insert(storage, scheduled_at=FUTURE)

        assert [storage.stage(2), storage.stage(2), storage.stage(2)] == [2, 1, 0]
        assert {row.state for row in storage.get(ids)} == {JobState.AVAILABLE}
        assert state_of(storage, later) is JobState.SCHEDULED

    def test_the_cleaner_removes_what_ended_long_enough_ago(self, storage: Storage) -> None:
        ids = [job_in(storage, state) for state in JobState]

        assert storage.cleaner(JobState.COMPLETED, AN_HOUR, limit=10) == 0
        assert storage.cleaner(JobState.COMPLETED, NOW, limit=10) == 1
        assert storage.cleaner(JobState.CANCELLED, NOW, limit=10) == 1
        assert {row.state for row in storage.get(ids)} == {*WAITING, JobState.RUNNING}

    def test_the_cleaner_removes_at_most_its_limit_the_oldest_first(self, storage: Storage) -> None:
        ids = [job_in(storage, JobState.CANCELLED) for _ in range(5)]

        assert storage.cleaner(JobState.CANCELLED, NOW, limit=3) == 3
        assert [row.id for row in storage.get(ids)] == ids[3:]

    def test_waiting_for_a_hint_ends_in_time(self, storage: Storage) -> None:
        with storage.announcements(OWNER) as announcements:
            began = time.monotonic()
            heard = announcements.wait(0.01)

        assert isinstance(heard, Hints)
        assert time.monotonic() - began < 5

    def test_another_thread_ends_the_wait_for_a_hint_and_all_later_ones(
        self, storage: Storage
    ) -> None:
        began = time.monotonic()
        with storage.announcements(OWNER) as announcements:
            thread = threading.Thread(target=announcements.wake)
            thread.start()
            for _ in range(3):
                announcements.wait(20)
            thread.join()
        announcements.wake()

        assert time.monotonic() - began < 20
