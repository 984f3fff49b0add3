from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.pool_world import job
from synk.claim import Outcome
from synk.core.verdicts import plain_success
from synk.retry import BACKOFF_MAX_S, SPREAD, Verdict, backoff_s, judge
from synk.row import CancelReason, JobState
from synk.runtime.supervisor.jitter import spread

LATER = dt.datetime(2026, 6, 1, tzinfo=dt.timezone.utc)


def judged(verdict: Verdict, **left: Any) -> Outcome:
    return judge(job(1), verdict, Outcome(1, 1, 1, **left)).outcome


def test_the_back_off_grows_fourfold() -> None:
    assert [backoff_s(n) for n in (1, 2, 3, 4)] == pytest.approx([4, 16, 64, 256])


@given(charged=st.integers(1, 10**9))
def test_p9_the_back_off_is_bounded_and_jittered_by_a_tenth(charged: int) -> None:
    wait_s = spread(backoff_s(charged), SPREAD)

    assert 3.6 <= wait_s <= BACKOFF_MAX_S * 1.1


@given(measure=st.tuples(*[st.integers(0, 10**12)] * 4), pid=st.none() | st.integers(1, 10**6))
def test_a_plain_success_is_what_the_judge_would_make_of_it(
    measure: tuple[int, int, int, int], pid: int | None
) -> None:
    claimed = job(1, attempt=3, crashes=2)
    duration_us, cpu_us, system_us, peak = measure
    known = Outcome(
        *(claimed.id, claimed.attempt, claimed.claim_seq),
        duration_us=duration_us,
        cpu_us=cpu_us,
        system_us=system_us,
        peak_rss_bytes=peak,
        pid=pid,
    )

    judged = judge(claimed, Verdict.SUCCEEDED, known)

    assert judged.outcome == plain_success(claimed, measure, pid)
    assert not judged.interrupted


def test_a_success_completes_the_job_with_its_result() -> None:
    outcome = judged(Verdict.SUCCEEDED, duration_us=5, result='{"a":1}')

    assert (outcome.state, outcome.result, outcome.duration_us) == (
        JobState.COMPLETED,
        '{"a":1}',
        5,
    )


def test_a_failure_with_tries_left_is_scheduled_with_its_back_off() -> None:
    outcome = judged(Verdict.FAILED, error="{}")

    assert (outcome.state, outcome.retry_in_s, outcome.error) == (JobState.SCHEDULED, 4.0, "{}")


def test_the_workers_own_retry_time_is_passed_on() -> None:
    outcome = judged(Verdict.FAILED, error="{}", retry_at=LATER)

    assert outcome.retry_at == LATER


def test_the_last_failure_cancels_the_job_with_reason_failed() -> None:
    last = job(1, attempt=3)

    outcome = judge(last, Verdict.FAILED).outcome

    assert (outcome.state, outcome.cancel_reason) == (JobState.CANCELLED, CancelReason.FAILED)


def test_uncounted_attempts_leave_more_tries() -> None:
    late = job(1, attempt=3, uncounted=1)

    assert judge(late, Verdict.FAILED).outcome.state is JobState.SCHEDULED


def test_a_released_attempt_is_not_charged() -> None:
    outcome = judged(Verdict.RELEASED)

    assert (outcome.state, outcome.uncharged) == (JobState.AVAILABLE, True)


def test_a_cancelled_attempt_keeps_its_record() -> None:
    outcome = judged(Verdict.CANCELLED, error="{}")

    assert (outcome.cancel_reason, outcome.error) == (CancelReason.REQUESTED, "{}")
