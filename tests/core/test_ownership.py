"""What a supervisor may still act on, by its own clock and by what the storage says."""

from __future__ import annotations

from uuid import UUID

import pytest

from support.pool_world import fence, job
from synk.claim import Outcome
from synk.core.ownership import BEATS_A_TTL, OwnLease, Reconciliation, SecondOpinion, reconcile
from synk.status import Lease

TTL_S = 30.0
SOME, OTHER = UUID(int=1), UUID(int=2)


# -- the own lease --------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl_s", [6.0, 30.0, 3600.0])
def test_a_lease_is_used_for_less_than_it_is_granted_and_renewed_in_time(ttl_s: float) -> None:
    lease = OwnLease(ttl_s)
    assert lease.left_s(0.0) <= 0

    lease.renewed(1000.0)

    # A tenth for clocks that drift apart, and the time that killing takes.
    assert ttl_s * 0.8 <= lease.left_s(1000.0) < ttl_s * 0.9
    assert lease.left_s(1000.0 + ttl_s * 0.9) < 0
    assert lease.left_s(1000.0 + lease.beat_s * (BEATS_A_TTL - 2)) > 0


def test_an_answer_that_comes_late_counts_from_when_it_was_asked_for() -> None:
    lease = OwnLease(TTL_S)
    lease.renewed(1000.0)
    left_s = lease.left_s(1020.0)

    # Of two answers the later question counts, in whatever order they come.
    lease.renewed(990.0)

    assert lease.left_s(1020.0) == left_s


# -- another one's --------------------------------------------------------------------------------


def test_nobody_is_suspected_at_first_sight() -> None:
    opinion = SecondOpinion(TTL_S)
    over = Lease(SOME, 7, is_over=True)

    assert opinion.suspects([over], 1000.0) == []
    assert opinion.suspects([over], 1000.0 + TTL_S - 0.1) == []
    assert opinion.suspects([over], 1000.0 + TTL_S) == [over]


def test_one_that_renews_is_not_suspected_though_the_storages_clock_is_ahead() -> None:
    """A clock that was set forward has every lease of the fleet run out at once."""
    opinion = SecondOpinion(TTL_S)

    suspects = [
        suspect
        for beat in range(20)
        for suspect in opinion.suspects([Lease(SOME, beat, is_over=True)], 1000.0 + 5.0 * beat)
    ]

    assert suspects == []


def test_one_whose_lease_is_not_over_is_not_suspected_though_it_is_silent() -> None:
    """A clock that was set back, or a lease that is longer than the own one."""
    opinion = SecondOpinion(TTL_S)
    silent = Lease(SOME, 7, is_over=False)
    opinion.suspects([silent], 1000.0)

    assert opinion.suspects([silent], 9000.0) == []


def test_each_is_watched_for_itself_and_anew_after_it_was_gone() -> None:
    opinion = SecondOpinion(TTL_S)
    some, other = Lease(SOME, 7, is_over=True), Lease(OTHER, 7, is_over=True)
    opinion.suspects([some], 1000.0)
    opinion.suspects([some, other], 1020.0)

    assert opinion.suspects([some, other], 1030.0) == [some]
    assert opinion.suspects([other], 1040.0) == []
    assert opinion.suspects([some, other], 1050.0) == [other]


# -- what the storage says that is run here -------------------------------------------------------

NOTHING = Reconciliation()


def test_d7_what_is_held_or_on_its_way_is_in_order() -> None:
    held, ended = job(1), job(2)

    found = reconcile(
        [held, ended],
        held={fence(held)},
        still_held={fence(held)},
        outcomes={fence(ended)},
        accepted={},
        unanswered={1},
    )

    assert found == NOTHING


def test_d7_each_disagreement_is_settled_in_its_way() -> None:
    """A fail-over has lost an acknowledgement and a claim; the answer of another claim was lost."""
    lost_ack, ghost, stray, lost_claim = job(1), job(2, claim_seq=5), job(3), job(4)
    outcome = Outcome(lost_ack.id, lost_ack.attempt, lost_ack.claim_seq)

    found = reconcile(
        [lost_ack, ghost, stray],
        held={fence(lost_claim)},
        still_held={fence(lost_claim)},
        outcomes=set(),
        accepted={fence(lost_ack): outcome},
        unanswered={5},
    )

    assert found == Reconciliation(
        again=[outcome], ghosts=[ghost], strays=[stray], gone=[fence(lost_claim)]
    )


def test_d7_what_ends_or_arrives_while_the_storage_is_asked_is_left_alone() -> None:
    ended_meanwhile, new_claim = job(1), job(2, claim_seq=2)

    found = reconcile(
        [],
        held={fence(ended_meanwhile)},
        still_held={fence(new_claim)},
        outcomes=set(),
        accepted={},
        unanswered=set(),
    )

    assert found == NOTHING


def test_d7_the_same_job_under_another_claim_is_not_the_same() -> None:
    former, present = job(1, claim_seq=1), job(1, claim_seq=2)

    found = reconcile(
        [present],
        held={fence(former), fence(present)},
        still_held={fence(former), fence(present)},
        outcomes=set(),
        accepted={},
        unanswered=set(),
    )

    assert found == Reconciliation(gone=[fence(former)])
