"""Outcomes on their way to the storage."""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Iterator, Sequence

import pytest

from support.acknowledging import acknowledging_loop
from support.model import ModelStorage
from support.stepping import step_until_idle
from synk.claim import AckAnswer, ClaimedJob, Fence, Outcome
from synk.core.messages import Settle
from synk.core.ownership import fence_of
from synk.errors import StorageUnavailable
from synk.retry import Verdict, judge
from synk.runtime.supervisor.ack_loop import ACK_LINGER_S, BUSY_LINGER_S, ENOUGH_JOBS, AckLoop
from synk.runtime.supervisor.unstored import UNSTORED_MAX
from synk.telemetry import Telemetry
from synk.testing.making import OWNER as MAKER
from synk.testing.making import claim, new_job, outcome_of

OWNER = uuid.UUID(int=1)
LOCKED = Outcome(1, 1, 1)
LOOKS = 3_000
ROUNDS = 12


class BusyStorage(ModelStorage):
    """The row of one outcome is always locked, and another outcome comes each time."""

    acks: AckLoop
    asked = 0

    def update_job_state(self, owner: uuid.UUID, outcomes: Sequence[Outcome]) -> list[AckAnswer]:
        self.asked += 1
        # Enough of them that it does not wait for more.
        self.acks.offer([Outcome(self.asked * 1000 + n, 1, 1) for n in range(200)])
        return [
            AckAnswer.LOCKED if outcome == LOCKED else AckAnswer.APPLIED for outcome in outcomes
        ]


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_an_outcome_is_known_until_it_is_stored() -> None:
    storage = BusyStorage()
    fence = Fence(LOCKED.id, LOCKED.attempt, LOCKED.claim_seq)
    with acknowledging_loop(storage, OWNER, Telemetry()) as (acks, _):
        storage.acks = acks
        acks.offer([LOCKED])

        looks = missed = 0
        while looks < LOOKS or storage.asked < ROUNDS:
            missed += fence not in acks.pending()
            looks += 1

    assert missed == 0


def test_few_outcomes_wait_a_moment_for_company_and_many_do_not() -> None:
    acks = AckLoop(ModelStorage(), OWNER, Telemetry())
    acks.offer([Outcome(1, 1, 1)])
    assert acks.step(0.0) == ACK_LINGER_S
    acks.offer([Outcome(2, 1, 1)])
    assert (acks.step(1.0), acks.unacknowledged) == (0.0, 0)

    acks.is_busy = True
    acks.offer([Outcome(3, 1, 1)])
    assert acks.step(2.0) == BUSY_LINGER_S
    acks.step(3.0)

    acks.offer([Outcome(10 + n, 1, 1) for n in range(ENOUGH_JOBS)])
    assert (acks.step(4.0), acks.unacknowledged) == (0.0, 0)
    assert acks.step(5.0) == math.inf


def test_only_a_loop_that_has_nothing_to_do_is_woken() -> None:
    """However many outcomes come, each costs no more than a look whether it has."""
    woken: list[float] = []
    acks = AckLoop(ModelStorage(), OWNER, Telemetry(), wake=lambda: woken.append(now))
    now = 0.0
    assert acks.step(now) == math.inf

    for now in (1.0, 2.0, 3.0):
        acks.offer([Outcome(int(now), 1, 1)])
    acks.step(3.0)
    acks.offer([Outcome(4, 1, 1)])

    assert woken == [1.0]


def test_what_is_not_stored_by_the_deadline_is_given_up() -> None:
    class Down(ModelStorage):
        def update_job_state(
            self, owner: uuid.UUID, outcomes: Sequence[Outcome]
        ) -> list[AckAnswer]:
            raise StorageUnavailable("down")

    acks = AckLoop(Down(), OWNER, Telemetry())
    acks.offer([Outcome(1, 1, 1)])
    acks.finish_by(10.0)

    ended_at = step_until_idle(acks.step)

    assert 10.0 <= ended_at < 11.0
    assert acks.unacknowledged == 1


def test_large_results_go_by_statements_of_a_few_megabytes() -> None:
    sizes: list[int] = []

    class Noting(ModelStorage):
        def update_job_state(
            self, owner: uuid.UUID, outcomes: Sequence[Outcome]
        ) -> list[AckAnswer]:
            sizes.append(sum(len(outcome.result or "") for outcome in outcomes))
            return [AckAnswer.APPLIED] * len(outcomes)

    acks = AckLoop(Noting(), OWNER, Telemetry())
    acks.offer([Outcome(n, 1, 1, result="1" * 60_000) for n in range(500)])

    step_until_idle(acks.step)

    assert sum(sizes) == 500 * 60_000
    assert max(sizes) < 10_000_000


def test_what_a_fail_over_loses_of_a_job_that_completed_itself_is_not_sent_again() -> None:
    """Its own transaction is lost too: it has to run again."""
    storage = ModelStorage()
    storage.insert([new_job(), new_job()])
    own, other = claim(storage)
    storage.complete(MAKER, fence_of(own))
    acks = AckLoop(storage, MAKER, Telemetry())
    acks.offer([outcome_of(own), outcome_of(other)])

    step_until_idle(acks.step)

    assert list(acks.accepted()) == [fence_of(other)]
    assert all(row.duration is not None for row in storage.get([own.id, other.id]))


def held(number: int) -> ClaimedJob:
    return ClaimedJob(number, 1, "k", 3, 0.0, 7, 0, "n", 0.0, 0.0, "{}", None, claim_seq=1)


def told(numbers: range, size: int) -> Settle:
    """The ends of jobs that leave so much behind."""
    return Settle(
        ended=[
            judge(held(number), Verdict.SUCCEEDED, Outcome(number, 1, 1, result="r" * size))
            for number in numbers
        ]
    )


def test_less_may_be_claimed_the_more_the_outcomes_weigh_that_wait() -> None:
    acks = AckLoop(ModelStorage(), OWNER, Telemetry(), held_bytes=16_000_000)
    assert acks.room(lambda: 0) == UNSTORED_MAX

    acks.settle(told(range(100), 60_000))
    assert acks.room(lambda: 0) == (16_000 - 6_000) // 60
    assert acks.room(lambda: 50) == (16_000 - 6_000) // 60 - 50
    acks.settle(told(range(100, 200), 60_000))
    assert acks.room(lambda: 70) <= 0


def test_what_is_stored_makes_room_whatever_became_of_it_on_the_way() -> None:
    """Some is refused for its weight at first, some is locked, some is offered again."""

    class Reluctant(ModelStorage):
        asked = 0

        def update_job_state(
            self, owner: uuid.UUID, outcomes: Sequence[Outcome]
        ) -> list[AckAnswer]:
            self.asked += 1
            if self.asked == 1:
                raise StorageUnavailable("down")
            if self.asked < 4:
                return [AckAnswer.LOCKED] * len(outcomes)
            return [AckAnswer.APPLIED] * len(outcomes)

    acks = AckLoop(Reluctant(), OWNER, Telemetry(), held_bytes=16_000_000)
    acks.settle(told(range(200), 60_000))
    acks.offer([Outcome(n, 1, 1, error="e" * 7_500) for n in range(200, 230)])
    acks.settle(
        Settle(
            ended=[
                judge(held(n), Verdict.FAILED, Outcome(n, 1, 1, error="e" * 9_999))
                for n in range(300, 320)
            ]
        )
    )
    assert acks._unstored.weight > 12_000

    step_until_idle(acks.step)

    assert acks._unstored.weight == 0
    for _ in range(400):
        acks.settle(Settle(successes=[(held(1), (1, 1, 1, 1), 1)] * 20))
    acks._settled.clear()
    assert acks.room(lambda: 10**6) == UNSTORED_MAX, "what came long ago is forgotten"
