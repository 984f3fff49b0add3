"""Jobs that were claimed under keys: which worker may have them, and when a permit is free."""

from __future__ import annotations

from support.pool_world import World, fence, job
from synk.core import messages as m
from synk.core.keyed_jobs import LINGER_S, STUCK_S
from synk.core.limits import QueueLimits
from synk.limit import Permit
from synk.retry import Verdict

LONG_S = 3.0
SHORT_S = 0.0001


def world_of(slots: int) -> World:
    queues = {"default": QueueLimits(max_workers=100, timeout_s=10.0)}
    world = World(slots=slots, queues=queues)
    world.all_ready()
    return world


def learn(world: World, kind: str, seconds: float) -> None:
    """Has the pool know how long jobs of *kind* take."""
    world.claim(job(10_000, kind=kind))
    (slot,) = [n for n, worker in world.workers.items() if worker.waiting]
    world.run_one(slot, seconds)


def begun(world: World) -> set[int]:
    """Has every worker begin what it has; returns the jobs that run now."""
    for slot, worker in world.workers.items():
        if worker.running is None and worker.waiting:
            world.begin(slot)
    return {worker.running[1].id for worker in world.workers.values() if worker.running}


def test_a_key_has_no_more_workers_than_permits() -> None:
    world = world_of(4)

    world.claim_under("x", job(1), job(2), job(3), permits=2)

    assert begun(world) == {1, 2}
    world.check()


def test_the_next_job_of_a_key_begins_when_one_is_over() -> None:
    world = world_of(2)
    world.claim_under("x", job(1), job(2), permits=1)
    assert begun(world) == {1}

    world.finish(0)

    assert begun(world) == {2}


def test_a_saturated_key_stands_in_nobodys_way() -> None:
    world = world_of(3)

    world.claim_under("x", *(job(n) for n in range(1, 20)), permits=1)
    world.claim_under("y", job(20), permits=1)
    world.claim(job(21, priority=4))

    assert begun(world) == {1, 20, 21}
    assert not world.pool.backlog.count, "what waits for a permit takes room of others"


def test_short_jobs_of_a_key_run_one_after_the_other_at_one_worker() -> None:
    world = world_of(2)
    learn(world, "short", SHORT_S)

    world.claim_under("x", *(job(n, kind="short") for n in range(1, 50)), permits=1)

    assert sorted(len(worker.waiting) for worker in world.workers.values()) == [0, 49]


def test_short_jobs_of_a_key_are_shared_by_as_many_workers_as_it_has_permits() -> None:
    world = world_of(3)
    learn(world, "short", 0.01)

    world.claim_under("x", *(job(n, kind="short") for n in range(1, 21)), permits=2)

    assert world.workers_with("x") == 2
    world.check()


def test_what_waits_for_a_permit_does_not_go_round_in_circles_beside_an_idle_worker() -> None:
    world = world_of(2)
    learn(world, "short", 0.01)
    world.claim_under("x", *(job(n, kind="short") for n in range(1, 9)), permits=1)
    (busy,) = [n for n, worker in world.workers.items() if worker.waiting]
    world.begin(busy)
    waiting = list(world.workers[busy].waiting)

    world.look()

    assert list(world.workers[busy].waiting) == waiting
    assert busy not in {
        command.slot for command in world.performed if isinstance(command, m.Recall)
    }


def test_a_job_that_waits_behind_another_key_goes_to_an_idle_worker() -> None:
    world = world_of(1)
    learn(world, "short", 0.01)
    world = world_of(2)
    learn(world, "short", 0.01)
    world.claim_under("x", job(1, kind="short"), job(2, kind="short"), permits=1)
    world.claim_under("y", job(3, kind="short"), permits=1)
    assert begun(world) == {1, 3}

    world.finish(1 if world.workers[1].running and world.workers[1].running[1].id == 3 else 0)
    world.look()

    assert begun(world) == {1}
    world.check()


def test_a_permit_stays_with_a_killed_worker_until_its_process_is_gone() -> None:
    world = world_of(2)
    world.claim_under("x", job(1), job(2), permits=1)
    assert begun(world) == {1}

    world.advance(11.0)

    assert world.kills[0][1] is m.KillReason.TIMEOUT
    assert begun(world) == {1}, "another one began beside the one that is being killed"
    world.exit(world.kills[0][0])
    world.claim_under("x", job(3))
    assert begun(world) == {3}


def test_a_permit_stays_with_a_cancelled_job_until_what_it_started_is_gone() -> None:
    world = world_of(2)
    world.claim_under("x", job(1), job(2), permits=1)
    assert begun(world) == {1}
    world.handle(m.CancelRequested([fence(world.claimed[1])]))

    world.finish(0, m.Reply(error="{}", cancelled=True))

    assert begun(world) == set()
    world.exit(0)
    assert begun(world) == {2}


def test_a_permit_is_free_after_a_failure_and_after_a_death() -> None:
    world = world_of(1)
    world.claim_under("x", job(1), job(2), job(3), permits=1)
    assert begun(world) == {1}

    world.finish(0, m.Reply(error="{}"))
    assert begun(world) == {2}
    world.exit(0)
    world.look()
    world.all_ready()

    assert begun(world) == {3}


def test_jobs_behind_a_stuck_one_keep_to_their_permit() -> None:
    world = world_of(3)
    learn(world, "short", SHORT_S)
    world.claim_under("x", *(job(n, kind="short") for n in range(1, 6)), permits=1)
    assert begun(world) == {1}

    world.advance(2.0)

    assert begun(world) == {1}
    world.check()


def test_what_waits_for_a_permit_for_long_goes_back_uncharged() -> None:
    world = world_of(2)
    world.claim_under("x", job(1), job(2), permits=1)
    assert begun(world) == {1}

    world.advance(STUCK_S)

    assert world.ended[2].verdict is Verdict.RELEASED
    assert world.pool.keyed.room(1, world.now, permits_max=2).held == {}
    world.check()


def test_the_more_urgent_job_of_a_key_goes_first() -> None:
    world = world_of(1)
    world.claim_under("x", job(1), permits=1)
    assert begun(world) == {1}
    world.claim_under("x", job(2, priority=3))
    world.claim_under("x", job(3, priority=1))

    world.finish(0)

    assert begun(world) == {3}


def test_a_permit_is_given_back_when_it_was_free_for_a_while_and_not_before() -> None:
    world = world_of(2)
    world.claim_under("x", job(1), permits=2)
    assert begun(world) == {1}

    world.advance(LINGER_S)
    assert world.give_back_permits() == [Permit("x", 0, 1)]
    world.finish(0)
    assert world.give_back_permits() == []
    world.advance(LINGER_S)

    assert world.give_back_permits() == [Permit("x", 1, 1)]
    assert not world.pool.keyed, "what it knew of the key is left"


def test_a_permit_that_is_used_again_and_again_is_kept() -> None:
    world = world_of(1)
    for n in range(1, 10):
        world.claim_under("x", job(n), permits=int(n == 1))
        begun(world)
        world.advance(LINGER_S / 2)
        world.finish(0)
        assert world.give_back_permits() == []
        world.advance(LINGER_S / 2)


def test_a_permit_is_given_back_as_it_was_taken_in_the_storage_s_eyes() -> None:
    world = world_of(1)
    world.claim_under("x", job(1), permits=2)
    former, other = world.pool.keyed.held()

    world.pool.keyed.renamed([Permit("x", 0, 7)])

    assert former == Permit("x", 0, 1)
    assert world.pool.keyed.held() == [Permit("x", 0, 7), other]


def test_nothing_begins_under_a_permit_that_was_withdrawn() -> None:
    world = world_of(2)
    world.claim_under("x", job(1), job(2), permits=1)
    assert begun(world) == {1}

    world.pool.keyed.withdrawn([Permit("x", 0, 1)])
    world.finish(0)

    assert begun(world) == set()
    world.advance(STUCK_S)
    assert world.ended[2].verdict is Verdict.RELEASED


def test_there_is_room_for_more_jobs_of_a_key_where_half_of_them_are_done() -> None:
    world = world_of(1)
    world.claim_under("x", job(1), job(2), job(3), permits=2)

    def room(per_permit: int) -> dict[str, int]:
        return dict(world.pool.keyed.room(per_permit, world.now, permits_max=2).held)

    assert room(1) == {}
    assert room(3) == {"x": 1}
    assert room(10) == {"x": 2}


def test_a_key_with_as_many_permits_as_there_are_workers_and_enough_jobs_is_full() -> None:
    world = world_of(2)
    world.claim_under("x", job(1), job(2), permits=2)
    world.claim_under("y", job(3), permits=1)
    world.claim_under("z", permits=2)

    room = world.pool.keyed.room(1, world.now, permits_max=2)

    assert room.full == ["x"]
    assert room.held == {"z": 2}


def test_what_a_lowered_limit_takes_goes_back_as_soon_as_its_workers_are_done() -> None:
    world = world_of(3)
    world.claim_under("x", job(1), job(2), job(3), job(4), permits=3)
    assert begun(world) == {1, 2, 3}

    world.pool.keyed.limit({"x": 1}.get)

    assert world.give_back_permits() == []
    world.finish(0)
    assert begun(world) == {2, 3}
    assert world.give_back_permits() == [Permit("x", 1, 1)]
    world.finish(1)
    assert world.give_back_permits() == [Permit("x", 2, 1)]
    world.finish(2)
    assert begun(world) == {4}


def test_a_drain_gives_back_what_waits_for_a_permit() -> None:
    world = world_of(2)
    world.claim_under("x", job(1), job(2), permits=1)
    assert begun(world) == {1}

    world.handle(m.DrainRequested(world.now + LONG_S))

    assert world.ended[2].verdict is Verdict.RELEASED
    world.check()


def test_a_cancelled_job_that_waits_for_a_permit_is_told_at_once() -> None:
    world = world_of(2)
    world.claim_under("x", job(1), job(2), permits=1)
    assert begun(world) == {1}

    world.handle(m.CancelRequested([fence(world.claimed[2])]))

    assert world.ended[2].verdict is not Verdict.RELEASED
    world.check()


def test_a_job_that_is_claimed_again_after_a_fail_over_frees_no_permit_before_it_is_dead() -> None:
    world = world_of(2)
    world.claim_under("x", job(1), job(2), permits=1)
    assert begun(world) == {1}

    world.claim_under("x", job(1, claim_seq=2))

    assert begun(world) == {1}
    (killed,) = [slot for slot, _, _ in world.kills]
    world.exit(killed)
    assert begun(world) == {2}
