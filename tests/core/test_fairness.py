"""M11: what one supervisor has claimed and cannot begin, another one gets."""

from __future__ import annotations

import pytest

from support.pool_world import World, job
from synk.core.backlog import HELD_S
from synk.core.limits import QueueLimits
from synk.retry import Verdict


def known(world: World, kind: str, seconds: float) -> None:
    for _ in range(100):
        world.pool.estimates.learn(kind, seconds)


@pytest.fixture
def world() -> World:
    world = World(
        queues={
            "default": QueueLimits(max_workers=100, timeout_s=1000.0),
            "capped": QueueLimits(max_workers=1, timeout_s=1000.0),
        }
    )
    world.all_ready()
    known(world, "short", 0.0001)
    known(world, "long", 10.0)
    return world


def released(world: World) -> list[int]:
    return sorted(
        job_id for job_id, ended in world.ended.items() if ended.verdict is Verdict.RELEASED
    )


def test_m11_jobs_behind_stuck_ones_go_back_for_others(world: World) -> None:
    world.claim(*(job(n, kind="short") for n in range(1, 11)))
    stuck = {world.begin(0), world.begin(1)}
    world.advance(1.0)
    assert released(world) == []

    world.advance(HELD_S)

    assert released(world) == sorted(set(range(1, 11)) - stuck)
    # And they are not claimed again at once.
    assert world.pool.demand(world.pool.rooms()) == {}
    world.check()


def test_m11_jobs_behind_long_ones_are_not_claimed(world: World) -> None:
    world.claim(job(1, kind="long"), job(2, kind="long"))
    world.begin(0)
    world.begin(1)
    world.claim(job(3, kind="short"))
    world.advance(0.1)

    assert world.pool.demand(world.pool.rooms()) == {}


def test_m11_jobs_of_a_queue_at_its_cap_go_back_for_others(world: World) -> None:
    world.claim(*(job(n, kind="short", queue="capped") for n in range(1, 11)))
    slot = next(slot.number for slot in world.pool.slots if slot.in_flight)
    stuck = world.begin(slot)

    world.advance(HELD_S + 1.0)

    assert released(world) == sorted(set(range(1, 11)) - {stuck})
    assert set(world.pool.demand(world.pool.rooms())) == {"default"}
    world.check()


def test_m11_a_queue_that_moves_keeps_what_it_has_claimed(world: World) -> None:
    world.claim(*(job(n, kind="short") for n in range(1, 1001)))
    for _ in range(4):
        world.run_one(0)
        world.run_one(1)
        world.advance(0.4 * HELD_S)
        world.run_one(0)

    assert set(released(world)) == set()


def test_m11_one_queue_does_not_starve_another(world: World) -> None:
    world.claim(*(job(n, kind="long") for n in range(1, 20)))
    world.claim(*(job(n, kind="long", queue="capped") for n in range(21, 40)))
    order: list[str] = []
    for _ in range(10):
        for slot in world.pool.slots:
            if world.workers[slot.number].waiting:
                order.append(slot.in_flight[0].job.queue)
                world.run_one(slot.number, 0.1)

    assert set(order[:4]) == {"default", "capped"}


def test_m11_a_pool_that_holds_nothing_back_sets_no_timer(world: World) -> None:
    world.claim(*(job(n, kind="short") for n in range(1, 11)))
    while any(worker.waiting for worker in world.workers.values()):
        for number, worker in world.workers.items():
            if worker.waiting:
                world.run_one(number)

    assert world.pool.next_deadline() is None
