"""Where claims begin to read: nothing that a claim found is read again, and nothing is missed."""

from __future__ import annotations

import pytest

from support.pool_world import job
from synk.claim import ClaimedJob
from synk.core.claim_cursors import LOOK_BACK_MAX_S, LOOK_BACK_S, ClaimCursors


def due(job_id: int, *, at: float, priority: int = 3) -> ClaimedJob:
    return job(job_id, priority=priority, scheduled_at=at)


def cursors_after(*jobs: ClaimedJob, limit: int, took: float = 0.0) -> ClaimCursors:
    cursors = ClaimCursors()
    cursors.claimed(jobs, limit=limit, began=0.0, now=took)
    return cursors


def test_a_claim_that_got_all_it_wanted_leaves_a_cursor_for_each_priority() -> None:
    jobs = [due(7, at=1.0, priority=1), due(3, at=5.0), due(4, at=5.0)]

    cursors = cursors_after(*jobs, limit=3)

    assert cursors.at(0.1) == {1: (1.0, 7), 3: (5.0, 4)}


def test_cursors_move_on_with_each_claim() -> None:
    cursors = cursors_after(due(7, at=1.0, priority=1), due(3, at=5.0), limit=2)

    cursors.claimed([due(5, at=5.0), due(6, at=6.0)], limit=2, began=0.1, now=0.1)

    assert cursors.at(0.2) == {1: (1.0, 7), 3: (6.0, 6)}


def test_a_claim_that_found_less_than_it_wanted_leaves_none() -> None:
    cursors = cursors_after(due(3, at=5.0), due(4, at=6.0), limit=2)

    cursors.claimed([due(5, at=7.0)], limit=2, began=0.1, now=0.1)

    assert cursors.at(0.2) == {}


def test_a_claim_that_passed_over_something_perhaps_is_repeated_at_once() -> None:
    cursors = cursors_after(due(3, at=5.0), limit=1)

    assert cursors.claimed([], limit=1, began=0.1, now=0.2) == 0.2
    assert cursors.at(0.2) == {}
    assert cursors.claimed([], limit=1, began=0.2, now=0.201) is None


def after_long_looks(*jobs: ClaimedJob, took: float = 0.1) -> ClaimCursors:
    """Three looks that found few jobs took long, the last of them until the second 3.0."""
    cursors = ClaimCursors()
    for number in (1, 2, 3):
        assert cursors.at(number - took) == {}
        limit = len(jobs) + 1
        again_at = cursors.claimed(jobs, limit=limit, began=number - took, now=float(number))
        assert again_at is None
    return cursors


def test_a_long_way_to_few_jobs_is_not_gone_again_at_once() -> None:
    cursors = after_long_looks(due(7, at=1.0, priority=1), due(4, at=6.0))

    assert cursors.at(3.1) == {1: (1.0, 7), 3: (6.0, 4)}
    cursors.announced()
    assert cursors.at(5.9) == {1: (1.0, 7), 3: (6.0, 4)}
    again_at = cursors.claimed([due(5, at=7.0)], limit=2, began=5.9, now=5.9)
    assert again_at == pytest.approx(6.0)
    assert cursors.at(5.99) == {1: (1.0, 7), 3: (7.0, 5)}
    assert cursors.at(6.01) == {}


def test_a_look_that_waited_for_a_cpu_once_makes_no_long_way() -> None:
    cursors = after_long_looks(due(4, at=6.0))
    assert cursors.at(6.01) == {}

    cursors.claimed([due(5, at=7.0)], limit=2, began=6.01, now=6.011)

    assert cursors.at(6.011) == {}


def test_a_claim_with_cursors_that_waited_once_makes_no_look_short() -> None:
    cursors = after_long_looks(due(4, at=6.0))
    assert cursors.at(3.1)
    cursors.claimed([], limit=2, began=3.1, now=4.1)
    assert cursors.at(6.01) == {}

    cursors.claimed([due(5, at=7.0)], limit=2, began=6.01, now=6.11)

    assert cursors.at(6.2)


def test_what_was_given_back_sets_no_cursor_back_once_all_is_read() -> None:
    cursors = after_long_looks(due(9, at=9.0))
    assert cursors.at(6.01) == {}

    cursors.claimed([due(2, at=2.0)], limit=2, began=6.01, now=6.11)

    assert cursors.at(6.2) == {3: (9.0, 9)}


def test_a_server_that_is_far_away_makes_no_long_way() -> None:
    cursors = after_long_looks(due(3, at=5.0), took=0.02)
    assert cursors.at(3.1) == {3: (5.0, 3)}
    for _ in range(40):
        cursors.claimed([], limit=2, began=3.1, now=3.12)
    assert cursors.at(3.7) == {}

    cursors.claimed([due(5, at=7.0)], limit=2, began=3.7, now=3.72)

    assert cursors.at(3.72) == {}


def test_the_time_that_many_jobs_take_is_no_long_way() -> None:
    cursors = after_long_looks(*(due(number, at=1.0) for number in range(1000)), took=0.011)

    assert cursors.at(3.0) == {}


def test_what_lies_before_the_cursors_is_looked_for_soon() -> None:
    cursors = cursors_after(due(3, at=5.0), limit=1)
    cursors.claimed([due(4, at=6.0)], limit=1, began=0.2, now=0.2)

    assert cursors.at(LOOK_BACK_S - 0.01)
    assert cursors.at(LOOK_BACK_S) == {}


def test_a_long_way_is_gone_more_rarely_up_to_a_limit() -> None:
    cursors = cursors_after(due(3, at=5.0), limit=1, took=0.1)
    assert cursors.at(3.0)
    assert cursors.at(3.2) == {}

    cursors = cursors_after(due(3, at=5.0), limit=1, took=5.0)
    assert cursors.at(4.9 + LOOK_BACK_MAX_S)
    assert cursors.at(5.0 + LOOK_BACK_MAX_S) == {}


def test_what_is_announced_may_be_more_urgent_than_what_is_read() -> None:
    cursors = cursors_after(due(7, at=1.0, priority=1), due(3, at=5.0), limit=2)

    cursors.announced()

    assert cursors.at(0.1) == {3: (5.0, 3)}
