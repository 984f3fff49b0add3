"""How much is claimed ahead where short and long jobs come by one queue, and what beyond that."""

from __future__ import annotations

import pytest

from support.pool_world import World, job
from synk.claim import ClaimedJob
from synk.core.dispatch import Urgent

LONG_S = 0.02
SHORT_S = 0.00001
FEW = 20
"""What two workers may have ahead of such long jobs; more might begin at once elsewhere."""


def run(world: World, first: int, count: int, *, kind: str, seconds: float) -> None:
    """Claims jobs one by one and runs each on an idle worker."""
    for number in range(first, first + count):
        world.claim(job(number, kind=kind))
        slot = next(slot for slot, worker in world.workers.items() if worker.waiting)
        world.run_one(slot, seconds)


def test_a_short_job_in_flight_among_long_ones_has_few_of_them_claimed() -> None:
    world = World(slots=2)
    world.all_ready()
    run(world, 1, 30, kind="long", seconds=LONG_S)
    run(world, 31, 1, kind="short", seconds=SHORT_S)

    world.claim(job(40, kind="short", priority=1), job(41, kind="long"))

    assert world.pool.demand(world.pool.rooms()).get("default", 0) <= FEW


def test_two_short_jobs_in_flight_after_long_ones_have_few_claimed() -> None:
    world = World(slots=2)
    world.all_ready()
    run(world, 1, 30, kind="long", seconds=LONG_S)
    run(world, 31, 1, kind="short", seconds=SHORT_S)

    world.claim(job(40, kind="short", priority=1), job(41, kind="short", priority=1))

    assert world.pool.demand(world.pool.rooms()).get("default", 0) <= FEW


def test_a_queue_whose_jobs_have_become_short_is_claimed_far_ahead_again() -> None:
    world = World(slots=2)
    world.all_ready()
    run(world, 1, 30, kind="long", seconds=LONG_S)
    run(world, 31, 100, kind="short", seconds=SHORT_S)

    world.claim(job(200, kind="short"))

    assert world.pool.demand(world.pool.rooms())["default"] > 100


def with_jobs_at_hand(*jobs: ClaimedJob, seconds: float = LONG_S, priority: int = 3) -> World:
    """Two workers with all the jobs of *priority* that they take, and then *jobs*."""
    world = World(slots=2)
    world.all_ready()
    run(world, 1, 30, kind="kind", seconds=seconds)
    world.claim(*(job(number, priority=priority) for number in range(31, 39)))
    world.claim(*jobs)
    return world


def test_what_would_overtake_the_jobs_at_hand_is_wanted_for_each_worker() -> None:
    world = with_jobs_at_hand(job(40, priority=3), job(41, priority=4))

    assert world.pool.urgent() == {"default": Urgent(1, above=4)}

    world = with_jobs_at_hand(job(40, priority=3))

    assert world.pool.urgent() == {"default": Urgent(2, above=3)}


def test_no_more_is_wanted_while_enough_that_is_urgent_waits() -> None:
    jobs = (job(40), job(41, priority=1), job(42, priority=2))
    world = with_jobs_at_hand(*jobs, priority=1)

    assert world.pool.urgent() == {}


def test_nothing_overtakes_what_is_critical_and_nothing_is_wanted_by_the_way() -> None:
    assert with_jobs_at_hand(job(40, priority=1), priority=1).pool.urgent() == {}
    assert with_jobs_at_hand().pool.urgent() == {}


def test_nothing_urgent_is_taken_from_others_while_all_workers_are_long_at_their_jobs() -> None:
    world = with_jobs_at_hand(job(40), seconds=3.0)

    assert world.pool.urgent() == {}


def test_nothing_urgent_is_wanted_in_a_drain_or_without_a_lease() -> None:
    world = with_jobs_at_hand(job(40))
    world.pool.fenced = True
    assert world.pool.urgent() == {}

    world.pool.fenced = False
    world.pool.draining = True
    assert world.pool.urgent() == {}


@pytest.mark.parametrize(("seconds", "ahead"), [(0.048, 8), (0.15, 4), (0.3, 2)])
def test_there_is_one_behind_each_that_runs_unless_it_would_wait_for_long(
    seconds: float, ahead: int
) -> None:
    """Without it each worker would wait for a claim after each job."""
    world = World(slots=2)
    world.all_ready()
    run(world, 1, 30, kind="kind", seconds=seconds)

    world.claim(job(40), job(41))

    assert world.pool.demand(world.pool.rooms()).get("default", 0) == ahead - 2
    world.claim(*(job(number) for number in range(42, 40 + ahead)))
    assert world.pool.demand(world.pool.rooms()) == {}
