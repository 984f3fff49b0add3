"""What the checker says of rows and executions that break a rule, and of those that do not."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from support import checking
from support.checking import Execution, History, Image
from synk.row import JobState

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.timezone.utc)
WAITING = Image(
    id=1,
    state=JobState.AVAILABLE,
    attempt=0,
    uncounted=0,
    max_attempts=2,
    owner=None,
    claim_seq=None,
    scheduled_at=NOW,
    attempted_at=None,
    finalized_at=None,
    failed=(),
)
RUNNING = replace(
    WAITING, state=JobState.RUNNING, attempt=1, owner="a", claim_seq=1, attempted_at=NOW
)
DONE = replace(RUNNING, state=JobState.COMPLETED, owner=None, claim_seq=None, finalized_at=NOW)
RUN = Execution(job_id=1, attempt=1, claim_seq=1, owner="a", began=10.0, seen=12.0, is_whole=True)


def history(*images: Image | None) -> History:
    history = History()
    for before, after in zip((None, *images), images, strict=False):
        history.take(before, after)
    return history


def rules(history: History) -> set[str]:
    return {broken.rule.split()[0] for broken in history.broken}


def test_a_job_that_runs_and_completes_breaks_nothing() -> None:
    seen = history(WAITING, RUNNING, DONE)

    assert seen.broken == []
    assert seen.i13_invented([RUN]) == []
    assert checking.i12_unexecuted([DONE], [RUN]) == []


@pytest.mark.parametrize(
    ("images", "rule"),
    [
        ((WAITING, RUNNING, DONE, WAITING), "I3"),
        ((WAITING, DONE), "I4"),
        ((WAITING, RUNNING, None), "I4"),
        ((WAITING, replace(RUNNING, attempt=2)), "I5"),
        ((WAITING, RUNNING, replace(RUNNING, owner="b")), "I6"),
        ((WAITING, RUNNING, replace(RUNNING, owner="b"), DONE), "I7"),
        ((replace(WAITING, owner="a"),), "I9"),
        ((replace(WAITING, attempt=2), replace(RUNNING, attempt=3)), "I10"),
        ((WAITING, RUNNING, replace(WAITING, attempt=1)), "I11"),
        ((WAITING, RUNNING, replace(DONE, failed=(1,))), "I11"),
        ((WAITING, replace(RUNNING, attempted_at=NOW - dt.timedelta(seconds=1))), "I24"),
    ],
)
def test_a_change_that_breaks_a_rule_is_named(images: tuple[Image | None, ...], rule: str) -> None:
    assert rule in rules(history(*images))


def test_i1_a_job_without_a_row_is_missing() -> None:
    assert [broken.job_id for broken in checking.i1_missing([1, 2], {1: WAITING})] == [2]


def test_i2_a_job_that_still_waits_is_unfinished() -> None:
    assert [broken.job_id for broken in checking.i2_unfinished([WAITING, DONE])] == [1]


def test_i12_an_execution_that_was_cut_off_is_none() -> None:
    assert checking.i12_unexecuted([DONE], [replace(RUN, is_whole=False)])
    assert checking.i12_unexecuted([DONE], [replace(RUN, attempt=2)])


def test_i13_an_execution_under_another_claim_is_invented() -> None:
    assert history(WAITING, RUNNING).i13_invented([replace(RUN, claim_seq=2)])


def test_i13_one_claim_is_one_execution() -> None:
    assert checking.i13_repeated([RUN, replace(RUN, began=13.0, seen=13.0)])
    assert checking.i13_repeated([RUN, replace(RUN, claim_seq=2)]) == []


def test_i14_two_executions_of_one_job_overlap_while_both_run() -> None:
    later = replace(RUN, attempt=2, owner="b", began=11.5, seen=14.0)

    (overlap,) = checking.i14_overlaps([later, RUN])

    assert (overlap.first, overlap.second, overlap.seconds) == (RUN, later, 0.5)
    assert checking.i14_overlaps([RUN, replace(later, began=12.0)]) == []
    assert checking.i14_overlaps([RUN, replace(later, job_id=2)]) == []


def test_i15_an_execution_that_outlives_its_bound_is_too_long() -> None:
    assert checking.i15_too_long([RUN], lambda _: 1.9)
    assert checking.i15_too_long([RUN], lambda _: 2.0) == []


def test_i21_executions_at_one_time_are_counted_by_supervisor() -> None:
    others = [replace(RUN, job_id=2), replace(RUN, job_id=3, owner="b")]

    assert checking.i21_most_at_once([RUN, *others]) == {"a": 2, "b": 1}


def test_i22_an_execution_that_begins_after_the_cancel_is_told() -> None:
    assert checking.i22_begun_later({1: 9.9}, [RUN])
    assert checking.i22_begun_later({1: 10.1, 2: 0.0}, [RUN]) == []
