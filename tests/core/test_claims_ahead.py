"""How much is claimed ahead where short and long jobs come by one queue."""

from __future__ import annotations

from core.world import World, job

LONG_S = 0.02
SHORT_S = 0.00001
FEW = 10
"""What two workers may have ahead of such long jobs; behind more, an urgent one would wait."""


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

    assert world.pool.demand().get("default", 0) <= FEW


def test_two_short_jobs_in_flight_after_long_ones_have_few_claimed() -> None:
    world = World(slots=2)
    world.all_ready()
    run(world, 1, 30, kind="long", seconds=LONG_S)
    run(world, 31, 1, kind="short", seconds=SHORT_S)

    world.claim(job(40, kind="short", priority=1), job(41, kind="short", priority=1))

    assert world.pool.demand().get("default", 0) <= FEW


def test_a_queue_whose_jobs_have_become_short_is_claimed_far_ahead_again() -> None:
    world = World(slots=2)
    world.all_ready()
    run(world, 1, 30, kind="long", seconds=LONG_S)
    run(world, 31, 100, kind="short", seconds=SHORT_S)

    world.claim(job(200, kind="short"))

    assert world.pool.demand()["default"] > 100
