"""Jobs that were claimed in time, and have not begun when their time is over."""

from __future__ import annotations

import pytest

from support.pool_world import EPOCH, World, job
from synk.core import messages as m
from synk.retry import Verdict


@pytest.fixture
def world() -> World:
    world = World(slots=1)
    world.all_ready()
    return world


def verdicts(world: World) -> dict[int, Verdict]:
    return {job_id: ended.verdict for job_id, ended in world.ended.items()}


def test_what_waits_here_when_its_time_is_over_goes_back_uncharged(world: World) -> None:
    world.claim(job(1), job(2, start_before=EPOCH + 0.1), job(3))
    world.begin(0)

    world.advance(0.09)
    assert 2 not in world.ended
    world.advance(0.02)

    assert verdicts(world) == {2: Verdict.RELEASED}
    assert [each.id for each in world.pool.backlog] == [3]


def test_what_has_begun_goes_on_however_long_it_takes(world: World) -> None:
    world.claim(job(1, start_before=EPOCH + 0.1))
    world.begin(0)

    world.advance(6.0)

    assert world.ended == {}
    assert world.pool.slots[0].in_flight[0].job.id == 1


def test_what_waits_at_a_worker_is_taken_back_from_it(world: World) -> None:
    for _ in range(100):
        world.pool.estimates.learn("kind", 0.01)
    world.claim(job(1), job(2, start_before=EPOCH + 0.1), job(3))
    assert [held.job.id for held in world.pool.slots[0].in_flight] == [1, 2, 3]
    world.begin(0)

    world.advance(0.11)

    assert verdicts(world) == {2: Verdict.RELEASED}
    left = [held.job.id for held in world.pool.slots[0].in_flight]
    assert sorted([*left, *(each.id for each in world.pool.backlog)]) == [1, 3]


def test_it_is_counted_from_when_the_storage_was_asked(world: World) -> None:
    world.claim(job(1))
    world.begin(0)
    late = job(2, start_before=EPOCH + 0.1)

    world.handle(m.Claimed([late], asked_at=world.now - 0.06))

    world.advance(0.03)
    assert world.ended == {}
    world.advance(0.02)
    assert verdicts(world) == {2: Verdict.RELEASED}


def test_a_job_that_is_tried_again_has_begun_long_ago(world: World) -> None:
    world.claim(job(1), job(2, attempt=2, start_before=EPOCH + 0.1))
    world.begin(0)

    world.advance(0.2)

    assert world.ended == {}


def test_nothing_is_remembered_of_jobs_that_are_over(world: World) -> None:
    world.claim(job(1, start_before=EPOCH + 1000.0))
    world.begin(0)
    world.finish(0)

    assert world.pool.held_claims._late_at == {}
