"""Queues that are paused, resumed and resized while they are served: the pool's part."""

from __future__ import annotations

from support.pool_world import World, job
from synk.core import messages as m
from synk.core.limits import QueueLimits
from synk.retry import Verdict

QUEUES = {
    "a": QueueLimits(max_workers=100, timeout_s=10.0),
    "b": QueueLimits(max_workers=100, timeout_s=10.0),
}
SIZES = {"a": 100, "b": 100}


def world_of(*, slots: int = 2) -> World:
    world = World(slots=slots, queues=dict(QUEUES))
    world.all_ready()
    return world


def pause(world: World, *queues: str) -> None:
    world.handle(m.QueuesSet(frozenset(queues), SIZES))


def resize(world: World, **sizes: int) -> None:
    world.handle(m.QueuesSet(frozenset(), {**SIZES, **sizes}))


def given_back(world: World) -> set[int]:
    return {id for id, ended in world.ended.items() if ended.verdict is Verdict.RELEASED}


def waiting(world: World) -> list[int]:
    return sorted(claimed.id for w in world.workers.values() for _, claimed in w.waiting)


def wanted(world: World) -> set[str]:
    return set(world.pool.demand(world.pool.rooms()))


def test_a_pause_gives_back_what_has_not_begun_and_lets_go_on_what_runs() -> None:
    world = world_of()
    world.claim(*(job(n, queue="a") for n in range(1, 41)), job(50, queue="b"))
    begun = {world.begin(0), world.begin(1)}

    pause(world, "a")

    assert given_back(world) == set(range(1, 41)) - begun
    assert waiting(world) in ([], [50])
    assert not any(ended.outcome.error for ended in world.ended.values())


def test_a_paused_queue_is_not_claimed_from_and_what_comes_is_given_back() -> None:
    world = world_of()
    pause(world, "a")
    assert wanted(world) == {"b"}

    world.claim(job(1, queue="a"))

    assert given_back(world) == {1}
    assert waiting(world) == []


def test_what_is_known_to_have_begun_cannot_begin_and_what_may_have_can() -> None:
    world = world_of(slots=1)
    world.claim(job(1, queue="a"))
    worker = world.workers[0]
    worker.expected_number = 2
    taken = worker.waiting.popleft()
    pause(world, "a")
    assert world.pool.held_claims.may_begin({"a"}), "the worker has it, and has not said more"

    worker.waiting.append(taken)
    world.begin(0)
    world.tell(0)

    assert not world.pool.held_claims.may_begin({"a"})


def test_what_a_dead_worker_leaves_of_a_paused_queue_does_not_begin_elsewhere() -> None:
    world = world_of(slots=1)
    world.claim(job(1, queue="a"), job(2, queue="a"))
    world.begin(0)
    pause(world, "a")

    world.exit(0)
    world.all_ready()
    world.advance(1.0)

    assert 2 in given_back(world)
    assert waiting(world) == []
    assert world.executed[2] == 0


def test_a_resumed_queue_is_claimed_from_at_once() -> None:
    world = world_of()
    pause(world, "a", "b")
    assert wanted(world) == set()

    pause(world)

    assert wanted(world) == {"a", "b"}


def test_pausing_twice_is_as_once() -> None:
    world = world_of()
    pause(world, "a")
    pause(world, "a")
    assert wanted(world) == {"b"}


def test_a_queue_that_is_made_smaller_runs_no_more_than_that_once_others_have_ended() -> None:
    world = world_of(slots=4)
    world.claim(*(job(n, queue="a") for n in range(1, 30)))
    for slot in range(4):
        world.begin(slot)

    resize(world, a=1)
    for slot in range(4):
        world.finish(slot)
        using = sum(bool(each.in_flight) for each in world.pool.slots)
        assert using <= max(1, 3 - slot)

    world.advance(0.01)
    assert sum(bool(each.in_flight) for each in world.pool.slots) == 1


def test_a_queue_that_is_made_larger_uses_more_workers_at_once() -> None:
    world = world_of(slots=4)
    resize(world, a=1)
    world.claim(*(job(n, queue="a") for n in range(1, 30)))
    assert sum(bool(each.in_flight) for each in world.pool.slots) == 1

    resize(world, a=3)

    assert sum(bool(each.in_flight) for each in world.pool.slots) == 3


def test_a_resize_takes_back_no_job_of_another_queue() -> None:
    world = world_of(slots=1)
    world.claim(*(job(n, queue="b") for n in range(1, 5)))
    before = waiting(world)

    resize(world, a=1)

    assert waiting(world) == before
    assert not [each for each in world.performed if isinstance(each, m.Recall)]
