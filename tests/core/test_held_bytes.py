"""What may be at hand in bytes: no supervisor dies of its own claims."""

from __future__ import annotations

import pytest
from msgspec import structs

from support.pool_world import World, job
from synk.claim import ClaimedJob
from synk.config import HELD_BYTES
from synk.core.limits import QueueLimits

MIB = 1024 * 1024
LIMITS = QueueLimits(max_workers=100, timeout_s=10.0)


def large(job_id: int, mib: int = 1, *, queue: str = "default") -> ClaimedJob:
    return structs.replace(job(job_id, queue=queue), args="x" * (mib * MIB))


def busy_world(*queues: str) -> World:
    """Two workers that are known to take no time for any job."""
    world = World(slots=2, queues=dict.fromkeys(queues or ("default",), LIMITS))
    world.all_ready()
    for number, queue in enumerate(world.queues):
        for each in range(40):
            world.claim(job(number * 100 + each + 1, queue=queue))
            slot = next(slot for slot, worker in world.workers.items() if worker.waiting)
            world.run_one(slot)
    return world


def test_no_more_is_claimed_while_64_mb_of_arguments_wait() -> None:
    world = busy_world()
    world.claim(*(large(1000 + number) for number in range(65)))
    assert world.pool.demand(world.pool.rooms())["default"] > 100, (
        "one of them is first at each worker"
    )

    world.claim(large(2000))

    assert world.pool.demand(world.pool.rooms()) == {}
    assert world.pool.rooms()["default"] <= 0


def test_what_is_over_or_was_given_back_makes_room() -> None:
    world = busy_world()
    world.claim(*(large(1000 + number, 2) for number in range(40)))
    assert world.pool.demand(world.pool.rooms()) == {}

    for _ in range(10):
        slot = next(slot for slot, worker in world.workers.items() if worker.waiting)
        world.run_one(slot)

    assert world.pool.demand(world.pool.rooms())["default"] > 0
    assert 0 < world.pool.rooms()["default"] < HELD_BYTES


@pytest.mark.parametrize("mib", [1, 40])
def test_jobs_that_run_take_no_room_whatever_they_weigh(mib: int) -> None:
    world = World(slots=2)
    world.all_ready()
    world.claim(large(1, mib), large(2, mib))
    world.begin(0)
    world.begin(1)

    assert world.pool.rooms() == {"default": HELD_BYTES}


def test_errors_of_earlier_attempts_weigh_as_much_as_arguments() -> None:
    world = busy_world()

    world.claim(*(structs.replace(job(1000 + n), history="e" * 2 * MIB) for n in range(40)))

    assert world.pool.demand(world.pool.rooms()) == {}


def test_the_large_jobs_of_one_queue_keep_none_of_another_from_being_claimed() -> None:
    world = busy_world("large", "small")

    world.claim(*(large(1000 + number, queue="large") for number in range(80)))

    assert world.pool.rooms()["large"] < 0
    assert world.pool.rooms()["small"] == HELD_BYTES // 2


def test_a_job_that_is_claimed_twice_weighs_once_and_leaves_nothing() -> None:
    world = busy_world()
    world.claim(large(1000, 30))
    world.claim(structs.replace(large(1000, 30), claim_seq=2), large(1001, 30))

    while any(worker.waiting for worker in world.workers.values()):
        slot = next(slot for slot, worker in world.workers.items() if worker.waiting)
        world.run_one(slot)

    assert world.pool.rooms() == {"default": HELD_BYTES}


def test_how_much_may_wait_is_a_setting() -> None:
    world = World(slots=2, max_held_bytes=20 * MIB)
    world.all_ready()
    world.claim(*(large(number) for number in range(1, 23)))
    assert world.pool.rooms() == {"default": 0}, "of 22, one is first at each worker"
