"""Which claim is due, and when the next one is: in time that only the test lets pass."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from support.pool_world import job
from synk.claim import ClaimedJob
from synk.core.claim_cursors import END
from synk.core.claim_schedule import (
    CLAIM_JOBS,
    IDLE_FETCHES,
    URGENT_PAUSE_S,
    ClaimSchedule,
    Demand,
    DueClaim,
)
from synk.core.dispatch import Urgent, WeightedDemand
from synk.row import Priority

FETCH_S = 10.0
NOW = 100.0
MIB = 1024 * 1024
HELD_BYTES = 64 * MIB
CLAIM_BYTES = 16 * MIB
ABOVE_MEDIUM = Urgent(2, Priority.MEDIUM)
QUEUES = ["a", "b"]


def schedule_of(*queues: str, are_announced: bool = False) -> ClaimSchedule:
    schedule = ClaimSchedule(dict.fromkeys(queues or ["a"], FETCH_S), held_bytes=HELD_BYTES)
    schedule.are_announced = are_announced
    return schedule


def want(
    schedule: ClaimSchedule,
    demand: dict[str, int] | None = None,
    urgent: dict[str, Urgent] | None = None,
    rooms: dict[str, int] | None = None,
) -> None:
    """The pool has seen all claims, and wants so much."""
    schedule.set_demand(Demand(demand or {}, urgent or {}, schedule.claims, rooms or {}))


def due(schedule: ClaimSchedule, now: float = NOW, *, jitter: float = 0.0) -> DueClaim:
    claim = schedule.due_claim(now, jitter)
    assert claim is not None
    return claim


def claim(schedule: ClaimSchedule, *jobs: ClaimedJob, wanted: int = 10, now: float = NOW) -> None:
    want(schedule, {"a": wanted})
    schedule.claimed(due(schedule, now), jobs, now)


def large(job_id: int, mib: int = 1) -> ClaimedJob:
    return structs.replace(job(job_id), args="x" * (mib * MIB))


# -- by the interval ------------------------------------------------------------------------------


def test_nothing_is_due_of_what_is_not_wanted() -> None:
    schedule = schedule_of()

    assert schedule.due_claim(NOW, 0.0) is None
    assert schedule.next_due() == inf


def test_a_queue_that_had_less_than_was_wanted_is_asked_by_its_interval() -> None:
    schedule = schedule_of()
    claim(schedule, job(1))

    want(schedule, {"a": 10})

    assert schedule.next_due() == NOW + FETCH_S
    assert schedule.due_claim(NOW + FETCH_S - 0.1, 0.0) is None
    assert due(schedule, NOW + FETCH_S).limit == 10


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 10.0), (0.5, 9.0), (1.0, 8.0)])
def test_t7_chance_makes_an_interval_up_to_a_fifth_shorter(jitter: float, seconds: float) -> None:
    schedule = schedule_of()
    want(schedule, {"a": 10})
    schedule.claimed(due(schedule, jitter=jitter), [], NOW)

    want(schedule, {"a": 10})

    assert schedule.next_due() == pytest.approx(NOW + seconds)


def test_a_queue_that_had_all_that_was_wanted_is_asked_at_once() -> None:
    schedule = schedule_of()
    claim(schedule, *map(job, range(10)), wanted=10)

    want(schedule, {"a": 10})

    assert due(schedule).after == {3: (job(9).scheduled_at, 9)}, "it reads on"


def test_an_announcement_ends_the_interval_of_the_queues_that_it_names() -> None:
    schedule = schedule_of(*QUEUES)
    for _ in QUEUES:
        want(schedule, dict.fromkeys(QUEUES, 10))
        schedule.claimed(due(schedule), [], NOW)

    want(schedule, dict.fromkeys(QUEUES, 10))
    schedule.announced({"b"})
    assert due(schedule).queue == "b"
    want(schedule, {"a": 10})
    assert schedule.due_claim(NOW, 0.0) is None

    schedule.announced(None)
    assert due(schedule).queue == "a"


def test_an_announcement_during_a_claim_is_not_lost() -> None:
    schedule = schedule_of()
    want(schedule, {"a": 10})
    asked = due(schedule)
    schedule.announced(None)
    schedule.claimed(asked, [], NOW)

    want(schedule, {"a": 10})

    assert due(schedule).seq == 2


def test_where_jobs_are_announced_an_empty_queue_is_left_in_peace_for_longer() -> None:
    schedule = schedule_of(are_announced=True)
    pauses: list[float] = []
    now = NOW
    for _ in range(12):
        claim(schedule, now=now)
        want(schedule, {"a": 10})
        pauses.append(schedule.next_due() - now)
        now = schedule.next_due()

    assert pauses[:3] == [FETCH_S, 2 * FETCH_S, 3 * FETCH_S]
    assert pauses[-1] == (1 + IDLE_FETCHES) * FETCH_S
    claim(schedule, job(1), now=now)
    claim(schedule, now=now + 1000)
    want(schedule, {"a": 10})
    assert schedule.next_due() == now + 1000 + FETCH_S, "it had a job in between"


def test_a_claim_without_an_answer_is_due_again() -> None:
    schedule = schedule_of()
    want(schedule, {"a": 10})
    schedule.failed(due(schedule))

    want(schedule, {"a": 10})

    assert due(schedule).limit == 10


# -- how many -------------------------------------------------------------------------------------


def test_a_demand_of_before_the_last_claim_is_not_taken() -> None:
    schedule = schedule_of()
    claim(schedule, *map(job, range(10)), wanted=10)

    schedule.set_demand(Demand({"a": 10}, {"a": ABOVE_MEDIUM}, 0, {}))

    assert schedule.next_due() == inf


def test_what_is_left_of_a_demand_for_more_than_one_claim_is_claimed_as_well() -> None:
    schedule = schedule_of()
    want(schedule, {"a": 2 * CLAIM_JOBS + 1})
    limits: list[int] = []
    while (asked := schedule.due_claim(NOW, 0.0)) is not None:
        limits.append(asked.limit)
        schedule.claimed(asked, [job(number) for number in range(asked.limit)], NOW)

    assert limits == [CLAIM_JOBS, CLAIM_JOBS]


def test_queues_that_have_jobs_take_turns() -> None:
    schedule = schedule_of("a", "b", "c")
    asked: list[str] = []
    for number in range(6):
        want(schedule, dict.fromkeys("abc", 1))
        claimed = due(schedule)
        asked.append(claimed.queue)
        schedule.claimed(claimed, [structs.replace(job(number), queue=claimed.queue)], NOW)

    assert asked == ["a", "b", "c"] * 2


# -- bytes ----------------------------------------------------------------------------------------


def limit_after(schedule: ClaimSchedule, *jobs: ClaimedJob) -> int:
    claim(schedule, *jobs, wanted=CLAIM_JOBS, now=NOW)
    schedule.announced(None)
    want(schedule, {"a": CLAIM_JOBS})
    claimed = due(schedule)
    schedule.failed(claimed)
    return claimed.limit


def test_so_many_are_asked_for_as_a_claim_may_weigh() -> None:
    schedule = schedule_of()
    assert limit_after(schedule, job(1)) == CLAIM_JOBS

    assert limit_after(schedule, job(1), large(2), job(3)) == 47
    assert limit_after(schedule, large(4), large(5)) == 16
    assert limit_after(schedule, job(6)) == 32, "it forgets slowly: sizes may alternate"
    assert limit_after(schedule) == 32


def test_one_job_is_asked_for_whatever_it_weighs() -> None:
    schedule = schedule_of()
    assert limit_after(schedule, large(1, 40)) == 1

    want(schedule, {"a": 10}, rooms={"a": -5})

    assert (due(schedule).bytes_max, due_again(schedule).limit) == (1, 1)


def due_again(schedule: ClaimSchedule) -> DueClaim:
    schedule.announced(None)
    want(schedule, {"a": 10}, rooms={"a": 1})
    return due(schedule)


@pytest.mark.parametrize(("mib", "at"), [(2, NOW), (1, NOW + FETCH_S)])
def test_a_claim_that_may_have_been_cut_is_followed_by_another(mib: int, at: float) -> None:
    schedule = schedule_of()
    claim(schedule, large(1, mib), wanted=10)

    want(schedule, {"a": 10})

    assert (schedule.due_claim(NOW, 0.0) is not None) == (at == NOW)


def test_the_rest_of_a_demand_waits_where_a_claim_has_taken_up_the_room() -> None:
    schedule = schedule_of()
    want(schedule, {"a": 2 * CLAIM_JOBS}, rooms={"a": 8 * MIB})
    asked = due(schedule)
    assert asked.bytes_max == 8 * MIB

    schedule.claimed(asked, [large(1, 8)], NOW)

    assert schedule.due_claim(NOW, 0.0) is None


# -- what is more urgent --------------------------------------------------------------------------


def test_what_is_more_urgent_is_looked_for_before_hundreds_of_others_are_claimed() -> None:
    schedule = schedule_of()
    want(schedule, {"a": 500}, {"a": ABOVE_MEDIUM})

    first, second = due(schedule), due(schedule)

    assert (first.is_urgent, first.limit) == (True, 2)
    assert first.after == {3: END, 4: END}, "what is not more urgent is passed over"
    assert (second.is_urgent, second.limit) == (False, 500)


def test_it_is_looked_for_when_something_is_announced_and_not_all_the_time() -> None:
    schedule = schedule_of(are_announced=True)
    want(schedule, {}, {"a": ABOVE_MEDIUM})
    schedule.claimed(due(schedule), [], NOW)
    want(schedule, {}, {"a": ABOVE_MEDIUM})
    assert schedule.next_due() == inf

    schedule.announced(None)

    assert schedule.next_due() == NOW + URGENT_PAUSE_S
    assert due(schedule, NOW + URGENT_PAUSE_S).is_urgent


def test_where_nothing_is_announced_it_is_looked_for_by_the_queue_s_interval() -> None:
    schedule = schedule_of()
    want(schedule, {}, {"a": ABOVE_MEDIUM})
    schedule.claimed(due(schedule), [], NOW)

    want(schedule, {}, {"a": ABOVE_MEDIUM})

    assert schedule.next_due() == NOW + FETCH_S


@pytest.mark.parametrize("is_answered", [True, False])
def test_where_there_may_be_more_of_it_the_next_look_comes_soon(*, is_answered: bool) -> None:
    schedule = schedule_of(are_announced=True)
    want(schedule, {}, {"a": ABOVE_MEDIUM})
    asked = due(schedule)
    if is_answered:
        schedule.claimed(asked, [job(1, priority=1), job(2, priority=1)], NOW)
    else:
        schedule.failed(asked)

    want(schedule, {}, {"a": ABOVE_MEDIUM})

    assert schedule.next_due() == NOW + URGENT_PAUSE_S


# -- whatever happens -----------------------------------------------------------------------------


@st.composite
def _happenings(draw: st.DrawFn) -> list[tuple[str, int, float]]:
    what = st.sampled_from(["want", "want urgent", "announce", "found all", "found none", "fail"])
    return draw(st.lists(st.tuples(what, st.integers(0, 3), st.floats(0, 20)), max_size=40))


@given(_happenings(), st.booleans())
def test_a_claim_is_due_exactly_when_it_was_said_to_be(
    happenings: list[tuple[str, int, float]], are_announced: bool
) -> None:
    schedule = schedule_of(*QUEUES, are_announced=are_announced)
    now = NOW
    for what, which, seconds in happenings:
        now += seconds
        queues = [name for place, name in enumerate(QUEUES) if which & (1 << place)]
        match what:
            case "want":
                want(schedule, dict.fromkeys(queues, 5))
            case "want urgent":
                want(schedule, {}, dict.fromkeys(queues, ABOVE_MEDIUM))
            case "announce":
                schedule.announced(queues)
            case _:
                expected = schedule.next_due()
                asked = schedule.due_claim(now, 0.5)
                assert (asked is not None) == (expected <= now)
                if asked is not None:
                    _end(schedule, asked, what, now)


def _end(schedule: ClaimSchedule, asked: DueClaim, how: str, now: float) -> None:
    if how == "fail":
        schedule.failed(asked)
    else:
        count = asked.limit if how == "found all" else 0
        schedule.claimed(asked, [job(n, queue=asked.queue) for n in range(count)], now)


@settings(max_examples=40)
@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=20, max_size=40))
def test_no_queue_waits_for_two_claims_of_another(wanted: list[set[str]]) -> None:
    schedule = schedule_of(*"abcd")
    waiting: dict[str, list[str]] = {}
    for queues in wanted:
        want(schedule, dict.fromkeys(sorted(queues), 1))
        asked = due(schedule)
        schedule.claimed(asked, [job(1, queue=asked.queue)], NOW)
        waiting = {name: [*waiting.get(name, []), asked.queue] for name in queues - {asked.queue}}
        for name, others in waiting.items():
            assert len(others) == len(set(others)), f"{name} waits"


def want_weighted(schedule: ClaimSchedule, plain: int = 0, **counts: int) -> None:
    """Jobs of the first queue, so many of each kind."""
    weighted = {"a": WeightedDemand(min(counts.values()), tuple(counts))} if counts else {}
    demand = Demand({"a": plain} if plain else {}, claims_seen=schedule.claims, weighted=weighted)
    schedule.set_demand(demand)


def test_jobs_with_a_weight_are_claimed_by_themselves_in_turn_with_the_others() -> None:
    schedule = schedule_of("a")
    found: list[tuple[str, ...]] = []
    for _ in range(4):
        want_weighted(schedule, plain=1, big=1)
        claimed = due(schedule)
        found.append(claimed.kinds)
        schedule.claimed(claimed, [job(schedule.claims)], NOW)

    assert found == [(), ("big",), (), ("big",)]


def test_one_claim_for_a_budget_that_queues_share() -> None:
    schedule = schedule_of("a", "b")
    wanted = {name: WeightedDemand(1, ("big",)) for name in "ab"}
    schedule.set_demand(Demand(weighted=wanted))

    assert due(schedule).queue == "a"
    assert schedule.due_claim(NOW, 0.0) is None
    schedule.set_demand(Demand(claims_seen=1, weighted=wanted))
    assert due(schedule).queue == "b"


def test_a_kind_that_has_room_again_is_claimed_at_once_unless_none_was_left() -> None:
    schedule = schedule_of("a")
    want_weighted(schedule, big=1)
    schedule.claimed(due(schedule), [], NOW)
    want_weighted(schedule, big=1)
    assert schedule.next_due() == NOW + FETCH_S
    want_weighted(schedule, big=1, small=1)

    assert due(schedule).kinds == ("big", "small")
    want_weighted(schedule, big=1)
    schedule.announced(["a"])
    assert due(schedule).kinds == ("big",)


def test_a_way_past_many_others_is_not_gone_again_and_again() -> None:
    schedule = schedule_of("a")
    want_weighted(schedule, big=1)
    schedule.claimed(due(schedule), [], NOW + 0.06)
    schedule.announced(None)
    want_weighted(schedule, big=1)

    assert schedule.next_due() == pytest.approx(NOW + 0.06 + 1.0)
    want_weighted(schedule, plain=1)
    assert schedule.next_due() == 0.0, "the others do not wait for that"


def test_what_was_read_for_some_kinds_is_read_again_for_others() -> None:
    schedule = schedule_of("a")
    want_weighted(schedule, big=1)
    schedule.claimed(due(schedule), [job(7)], NOW)
    want_weighted(schedule, big=1)
    again = due(schedule)
    assert again.after != {}
    schedule.claimed(again, [job(8)], NOW)
    want_weighted(schedule, big=1, small=1)

    assert due(schedule).after == {}
    assert schedule.none_of(again, []) == (), "what lies before the cursor is not known"


def test_what_a_claim_has_left_none_of() -> None:
    schedule = schedule_of("a")
    want_weighted(schedule, big=2, small=2)
    claimed = due(schedule)

    assert schedule.none_of(claimed, [job(1)]) == [("a", "big"), ("a", "small")]
    assert schedule.none_of(claimed, [job(1), job(2)]) == ()


@pytest.mark.parametrize("is_keyed_first", [True, False])
def test_where_jobs_may_have_keys_a_kind_has_none_once_both_claims_found_none(
    is_keyed_first: bool,
) -> None:
    schedule = ClaimSchedule({"a": FETCH_S}, limited=["a"], keyed_s=FETCH_S)
    want_weighted(schedule, big=1)
    one = due(schedule)
    want_weighted(schedule, big=1)
    other = due(schedule)
    assert (one.after_keys is None) != (other.after_keys is None)
    first, second = (one, other) if (one.after_keys is not None) == is_keyed_first else (other, one)

    assert schedule.none_of(first, []) == []
    assert schedule.none_of(second, []) == [("a", "big")]
    late = replace(first, at=NOW + 2.0)
    assert schedule.none_of(late, []) == [], "one may have come since the other claim"


def test_elsewhere_a_look_for_jobs_with_keys_tells_nothing_of_the_others() -> None:
    schedule = ClaimSchedule({"a": FETCH_S}, keyed_s=FETCH_S)
    want_weighted(schedule, big=1)
    claims = [due(schedule)]
    want_weighted(schedule, big=1)
    claims.append(due(schedule))

    told = {each.after_keys is None: schedule.none_of(each, []) for each in claims}
    assert told == {True: [("a", "big")], False: []}


def test_a_claim_of_jobs_with_a_weight_that_failed_is_due_again() -> None:
    schedule = schedule_of("a")
    want_weighted(schedule, big=1)
    schedule.failed(due(schedule))
    want_weighted(schedule, big=1)

    assert schedule.next_due() == 0.0
