from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.pool_world import job
from synk.failure import AttemptError, Cause
from synk.retry import BACKOFF_MAX_S, Ended, Verdict, backoff_s, judge
from synk.row import CancelReason, JobState

LATER = dt.datetime(2026, 6, 1, tzinfo=dt.timezone.utc)


def test_the_back_off_grows_fourfold() -> None:
    assert [backoff_s(n, 0.5) for n in (1, 2, 3, 4)] == pytest.approx([4, 16, 64, 256])


@given(charged=st.integers(1, 10**9), jitter=st.floats(0, 1))
def test_p9_the_back_off_is_bounded_and_jittered_by_a_tenth(charged: int, jitter: float) -> None:
    wait_s = backoff_s(charged, jitter)

    assert 3.6 <= wait_s <= BACKOFF_MAX_S * 1.1


def test_a_success_completes_the_job_with_its_result() -> None:
    outcome = judge(Ended(job(1), Verdict.SUCCEEDED, duration_us=5, result='{"a":1}'), 0.5)

    assert (outcome.state, outcome.result, outcome.duration_us) == (
        JobState.COMPLETED,
        '{"a":1}',
        5,
    )


def test_a_failure_with_tries_left_is_scheduled_with_its_back_off() -> None:
    outcome = judge(Ended(job(1), Verdict.FAILED, error="{}"), 0.5)

    assert (outcome.state, outcome.retry_in_s, outcome.error) == (JobState.SCHEDULED, 4.0, "{}")


def test_the_workers_own_retry_time_is_passed_on() -> None:
    outcome = judge(Ended(job(1), Verdict.FAILED, error="{}", retry_at=LATER), 0.5)

    assert outcome.retry_at == LATER


def test_the_last_failure_cancels_the_job_with_reason_failed() -> None:
    last = job(1, attempt=3)

    outcome = judge(Ended(last, Verdict.FAILED, error="{}"), 0.5)

    assert (outcome.state, outcome.cancel_reason) == (JobState.CANCELLED, CancelReason.FAILED)


def test_uncounted_attempts_leave_more_tries() -> None:
    late = job(1, attempt=3, uncounted=1)

    assert judge(Ended(late, Verdict.FAILED, error="{}"), 0.5).state is JobState.SCHEDULED


def test_a_released_attempt_is_not_charged() -> None:
    outcome = judge(Ended(job(1), Verdict.RELEASED), 0.5)

    assert (outcome.state, outcome.uncharged) == (JobState.AVAILABLE, True)


def test_a_cancelled_attempt_keeps_its_record() -> None:
    error = AttemptError(attempt=1, error="killed", cause=Cause.CANCELLED)

    outcome = judge(Ended(job(1), Verdict.CANCELLED, error=error), 0.5)

    assert outcome.cancel_reason is CancelReason.REQUESTED
    assert outcome.error is not None
    assert '"cancelled"' in outcome.error
