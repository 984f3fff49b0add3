from __future__ import annotations

import json
from typing import get_args

import pytest

from support.pool_world import World, fence, job
from synk.core import messages as m
from synk.core.dispatch import BACKLOG_JOBS, WINDOW_JOBS
from synk.core.lateness import DISPATCH_S, STALL_S
from synk.core.limits import QueueLimits
from synk.core.pool import Pool
from synk.core.slot import SlotState
from synk.core.starts import START_FAILURES_MAX
from synk.failure import AttemptError, Cause
from synk.retry import Verdict


@pytest.fixture
def world() -> World:
    world = World()
    world.all_ready()
    return world


def known_short(world: World, kind: str = "kind", seconds: float = 0.0001) -> None:
    for _ in range(100):
        world.pool.estimates.learn(kind, seconds)


def record(world: World, job_id: int) -> AttemptError:
    error = world.ended[job_id].outcome.error
    assert error is not None
    return AttemptError.from_dict(json.loads(error))


def test_every_slot_gets_a_process_at_the_start() -> None:
    world = World(slots=3)

    assert sorted(world.workers) == [0, 1, 2]
    assert all(slot.state is SlotState.STARTING for slot in world.pool.slots)


def test_jobs_wait_until_a_worker_is_ready() -> None:
    world = World()

    world.claim(job(1))

    assert world.pool.backlog.count == 1
    world.ready(0)
    assert sum(len(slot.in_flight) for slot in world.pool.slots) == 1


def test_a_job_of_an_unknown_kind_has_a_worker_to_itself(world: World) -> None:
    world.claim(job(1), job(2), job(3))

    assert [len(slot.in_flight) for slot in world.pool.slots] == [1, 1]
    assert world.pool.backlog.count == 1


def test_it_is_crowded_only_while_jobs_wait_and_no_worker_is_idle() -> None:
    limits = {
        "capped": QueueLimits(max_workers=1, timeout_s=10),
        "default": QueueLimits(max_workers=9, timeout_s=10),
    }
    world = World(slots=2, queues=limits)
    world.ready(0)
    world.ready(1)
    assert not world.pool.is_crowded

    world.claim(job(1, queue="capped"), job(2, queue="capped"))
    assert world.pool.backlog.count == 1
    assert not world.pool.is_crowded

    world.claim(job(3))
    assert world.pool.is_crowded


def test_short_jobs_travel_in_windows_spread_over_all_workers(world: World) -> None:
    known_short(world, seconds=0.00001)

    world.claim(*(job(n) for n in range(1, 101)))

    assert [len(slot.in_flight) for slot in world.pool.slots] == [50, 50]


def test_a_window_is_never_larger_than_the_ring_can_hold(world: World) -> None:
    known_short(world, seconds=0.0)

    world.claim(*(job(n) for n in range(1, 2000)))

    assert all(len(slot.in_flight) <= WINDOW_JOBS for slot in world.pool.slots)


@pytest.mark.parametrize(("seconds", "held"), [(0.02, 4), (0.04, 2), (0.09, 2), (0.12, 1)])
def test_a_worker_holds_a_tenth_of_a_second_of_work_and_one_job_behind_another(
    world: World, seconds: float, held: int
) -> None:
    known_short(world, seconds=seconds)

    world.claim(*(job(n) for n in range(1, 11)))

    assert [len(slot.in_flight) for slot in world.pool.slots] == [held, held]


def test_no_job_is_sent_alone_to_a_worker_that_has_nearly_all_it_takes(world: World) -> None:
    known_short(world, seconds=0.001)
    world.claim(*(job(n) for n in range(1, 301)))
    held = len(world.pool.slots[0].in_flight)

    for _ in range(20):
        world.run_one(0)
        assert len(world.pool.slots[0].in_flight) < held
        held -= 1
    for _ in range(20):
        world.run_one(0)

    assert len(world.pool.slots[0].in_flight) > held


def test_an_urgent_job_goes_before_what_waits_at_a_worker(world: World) -> None:
    known_short(world, seconds=0.02)
    world.claim(*(job(n) for n in range(1, 9)))
    running = {world.begin(0), world.begin(1)}

    world.claim(job(20, priority=1))

    behind = [slot.in_flight[1].job.id for slot in world.pool.slots]
    assert 20 in behind
    assert {slot.in_flight[0].job.id for slot in world.pool.slots} == running
    world.check()


def test_a_job_as_urgent_as_what_waits_at_the_workers_takes_nothing_back(world: World) -> None:
    known_short(world, seconds=0.02)
    world.claim(*(job(n) for n in range(1, 9)))
    waiting = [[held.job.id for held in slot.in_flight] for slot in world.pool.slots]

    world.claim(job(20))

    assert [[held.job.id for held in slot.in_flight] for slot in world.pool.slots] == waiting


def test_what_waits_at_the_workers_for_a_moment_is_not_taken_back_for_an_urgent_job(
    world: World,
) -> None:
    known_short(world, seconds=0.00001)
    world.claim(*(job(n) for n in range(1, 101)))

    world.claim(job(200, priority=1))

    assert [slot.in_flight[-1].job.id for slot in world.pool.slots].count(200) == 1


def test_a_job_of_another_queue_waits_for_the_running_jobs_alone() -> None:
    queues = {name: QueueLimits(max_workers=9, timeout_s=10) for name in ("busy", "quiet")}
    world = World(queues=queues)
    world.all_ready()
    known_short(world, seconds=0.02)
    world.claim(*(job(n, queue="busy") for n in range(1, 9)))
    world.begin(0)
    world.begin(1)

    world.claim(job(20, queue="quiet"))

    behind = [slot.in_flight[1].job.id for slot in world.pool.slots]
    assert 20 in behind
    world.check()


def test_what_a_worker_has_done_and_not_told_is_looked_at_in_time(world: World) -> None:
    known_short(world, seconds=0.02)
    world.claim(*(job(n) for n in range(1, 9)))
    world.begin(0)
    world.now += 0.02
    done = world.finish(0, tell=False)
    world.begin(0)

    world.advance(STALL_S)

    assert done in world.successes
    assert world.kills == []


def test_nothing_is_prefetched_behind_a_job_of_ten_seconds(world: World) -> None:
    known_short(world, seconds=10.0)

    world.claim(*(job(n) for n in range(1, 9)))

    assert [len(slot.in_flight) for slot in world.pool.slots] == [1, 1]


def test_urgent_jobs_overtake_others_that_wait(world: World) -> None:
    world.claim(job(1), job(2))
    world.claim(job(3, priority=4), job(4, priority=1))

    world.run_one(0, seconds=0.5)

    assert world.pool.slots[0].in_flight[0].job.id == 4


def test_a_success_is_settled_with_its_measures(world: World) -> None:
    world.claim(job(1))

    world.run_one(0, seconds=0.5)

    assert world.successes == [1]


def test_a_failure_keeps_the_workers_own_record_and_retry_time(world: World) -> None:
    world.claim(job(1))

    world.run_one(0, reply=m.Reply(error='{"error": "x"}'))

    assert world.ended[1].verdict is Verdict.FAILED
    assert world.ended[1].outcome.error == '{"error": "x"}'


def test_a_job_past_its_timeout_is_killed_and_only_it_is_blamed(world: World) -> None:
    world.claim(job(1), job(2))
    world.begin(0)
    world.begin(1)
    world.advance(9.9)
    assert world.kills == []
    world.finish(1)

    world.advance(0.2)
    world.exit(0, m.Exit(code=-12, signal="SIGUSR2", pid=77, stack="the stack"))

    assert world.kills == [(0, m.KillReason.TIMEOUT, 1)]
    assert record(world, 1).cause is Cause.TIMEOUT
    assert record(world, 1).trace == "the stack"
    assert world.successes == [2]
    assert world.pool.slots[0].state is SlotState.STARTING


def test_the_timeout_that_the_worker_named_beats_the_queues(world: World) -> None:
    world.claim(job(1))
    world.begin(0, timeout_s=1.0)
    world.look()

    world.advance(1.1)

    assert world.kills == [(0, m.KillReason.TIMEOUT, 1)]


def test_each_job_of_a_window_gets_its_full_time(world: World) -> None:
    known_short(world)
    world.claim(*(job(n) for n in range(1, 21)))
    world.begin(0)
    world.now += 6.0
    world.finish(0, tell=False)
    world.begin(0)

    world.advance(6.0)

    assert [slot for slot, _, _ in world.kills if slot == 0] == []


def test_a_worker_that_begins_nothing_is_replaced_and_its_jobs_begin_elsewhere(
    world: World,
) -> None:
    known_short(world)
    world.claim(job(1), job(2), job(3), job(4))
    for _ in range(round(DISPATCH_S) + 1):
        while world.workers[1].waiting:
            world.run_one(1)
        world.advance(1.0)
    world.run_one(1)

    assert world.kills == [(0, m.KillReason.DEAF, None)]
    world.exit(0)
    assert sorted(world.successes) == [1, 2, 3, 4]
    assert world.ended == {}
    assert world.pool.slots[0].state is SlotState.STARTING


def test_a_worker_that_stopped_between_its_leave_and_its_begin_is_replaced(world: World) -> None:
    """It holds the permit, so that its job cannot be taken back; yet the job has not begun."""
    world.claim(job(1))
    worker = world.workers[0]
    held = worker.waiting.popleft()

    world.advance(DISPATCH_S + 0.1)
    assert world.kills == [(0, m.KillReason.DEAF, None)]
    assert not world.settled
    assert held[1].id == 1
    world.exit(0)
    world.run_one(1)

    assert world.successes == [1]
    assert world.ended == {}


def test_a_worker_that_begins_late_but_begins_is_left_alone(world: World) -> None:
    world.claim(job(1))
    world.advance(DISPATCH_S - 0.1)
    world.begin(0)

    world.advance(DISPATCH_S)

    assert world.kills == []


def test_a_job_that_finishes_as_its_time_runs_out_is_not_killed(world: World) -> None:
    world.claim(job(1))
    world.begin(0)
    world.now += 10.5
    world.finish(0, tell=False)

    world.look()

    assert world.kills == []
    assert world.successes == [1]


def test_a_job_that_finished_before_its_kill_took_effect_counts_as_finished(world: World) -> None:
    world.claim(job(1))
    world.begin(0)
    world.advance(10.1)
    assert world.kills

    world.finish(0, tell=False)
    world.exit(0)

    assert world.successes == [1]
    assert 1 not in world.ended


def test_jobs_behind_a_late_one_go_to_other_workers_uncharged(world: World) -> None:
    known_short(world)
    world.claim(*(job(n) for n in range(1, 7)))
    late = world.begin(0)

    world.advance(0.5)
    while world.workers[1].waiting:
        world.run_one(1)

    assert len(world.successes) == 5
    assert late not in world.successes
    world.check()


def test_nothing_queues_up_behind_a_stalled_job(world: World) -> None:
    known_short(world)
    world.claim(*(job(n) for n in range(1, 5)))
    world.begin(0)
    world.advance(0.5)

    world.claim(*(job(n) for n in range(10, 20)))

    assert len(world.pool.slots[0].in_flight) == 1


def test_a_death_is_blamed_on_the_running_job_alone(world: World) -> None:
    known_short(world)
    world.claim(*(job(n) for n in range(1, 5)))
    first = world.begin(0)

    world.exit(0, m.Exit(code=-11, signal="SIGSEGV", pid=5))

    assert list(world.ended) == [first]
    assert record(world, first).cause is Cause.SIGNAL
    assert record(world, first).signal == "SIGSEGV"
    world.check()


def test_an_exit_with_status_zero_is_no_success(world: World) -> None:
    world.claim(job(1))
    world.begin(0)

    world.exit(0, m.Exit(code=0, pid=5))

    assert world.ended[1].verdict is Verdict.FAILED
    assert record(world, 1).cause is Cause.EXIT
    assert record(world, 1).exit_code == 0


def test_the_death_of_an_idle_worker_blames_nobody(world: World) -> None:
    world.exit(0)

    assert world.ended == {}
    assert world.pool.slots[0].state is SlotState.STARTING


def test_a_job_that_was_sent_but_not_begun_at_a_death_runs_elsewhere(world: World) -> None:
    world.claim(job(1))

    world.exit(0)
    world.run_one(1)

    assert world.successes == [1]


def test_a_waiting_job_is_cancelled_at_once(world: World) -> None:
    world.claim(job(1), job(2), job(3))

    world.handle(m.CancelRequested([fence(world.claimed[3])]))

    assert world.ended[3].verdict is Verdict.CANCELLED
    assert world.kills == []


def test_a_running_job_is_asked_and_then_killed_when_cancelled(world: World) -> None:
    world.claim(job(1))
    world.begin(0)

    world.handle(m.CancelRequested([fence(world.claimed[1])]))
    world.advance(4.9)
    assert world.asked == [(0, 1, m.Request.CANCEL)]
    assert world.kills == []
    world.advance(0.2)
    world.exit(0)

    assert world.kills == [(0, m.KillReason.CANCELLED, 1)]
    assert world.ended[1].verdict is Verdict.CANCELLED


def test_a_cancel_never_hits_another_attempt(world: World) -> None:
    world.claim(job(1))
    world.begin(0)
    stale = m.Fence(1, 1, 99)

    world.handle(m.CancelRequested([stale]))

    assert world.kills == []


def test_a_prefetched_job_that_is_cancelled_never_starts(world: World) -> None:
    known_short(world, seconds=0.02)
    world.claim(job(1), job(2), job(3), job(4))
    world.begin(0)
    behind = world.pool.slots[0].in_flight[1].job

    world.handle(m.CancelRequested([fence(behind)]))

    assert world.ended[behind.id].verdict is Verdict.CANCELLED
    assert world.kills == []


def test_an_idle_worker_gets_what_waits_behind_a_busy_one(world: World) -> None:
    known_short(world, seconds=0.05)
    world.claim(job(1), job(2), job(3))
    behind = next(slot for slot in world.pool.slots if len(slot.in_flight) == 2)
    other = world.pool.slots[1 - behind.number]
    world.begin(behind.number)

    world.run_one(other.number, seconds=0.05)

    assert len(behind.in_flight) == 1
    assert len(other.in_flight) == 1


def test_a_drain_gives_back_what_has_not_begun_and_waits_for_the_rest(world: World) -> None:
    known_short(world, seconds=0.02)
    world.claim(*(job(n) for n in range(1, 9)))
    running = {world.begin(0), world.begin(1)}

    world.handle(m.DrainRequested(world.now + 30))

    assert {e.job.id for e in world.ended.values() if e.verdict is Verdict.RELEASED} == (
        set(range(1, 9)) - running
    )
    assert not world.pool.is_stopped
    world.finish(0)
    world.finish(1)
    assert world.pool.demand(world.pool.rooms()) == {}
    world.exit(0, m.Exit(code=0))
    world.exit(1, m.Exit(code=0))
    assert world.pool.is_stopped
    world.check()


def test_a_drain_kills_what_runs_past_its_end_uncharged(world: World) -> None:
    world.claim(job(1))
    world.begin(0)
    world.handle(m.DrainRequested(world.now + 5))

    world.advance(5.1)
    for slot in list(world.workers):
        world.exit(slot)

    assert (0, m.KillReason.SHUTDOWN, 1) in world.kills
    assert world.ended[1].verdict is Verdict.RELEASED
    assert world.ended[1].interrupted == "its time was over at a shutdown"
    assert world.pool.is_stopped


def test_at_the_end_of_a_drain_nothing_is_due_while_its_kills_are_under_way(world: World) -> None:
    """Else the engine's loop would spin until the processes are gone."""
    world.claim(job(1))
    world.begin(0)
    world.handle(m.DrainRequested(world.now + 5))

    world.advance(5.1)

    assert world.kills
    assert not world.pool.is_stopped
    deadline = world.pool.next_deadline()
    assert deadline is None or deadline > world.now


def test_jobs_claimed_too_late_for_a_drain_are_given_back(world: World) -> None:
    world.handle(m.DrainRequested(world.now))

    world.claim(job(1))

    assert world.ended[1].verdict is Verdict.RELEASED
    assert world.ended[1].interrupted == ""


def test_a_second_drain_request_shortens_the_first(world: World) -> None:
    world.claim(job(1))
    world.begin(0)
    world.handle(m.DrainRequested(world.now + 1000))

    world.handle(m.DrainRequested(world.now))

    assert (0, m.KillReason.SHUTDOWN, 1) in world.kills


def test_a_worker_that_dies_at_its_start_is_replaced_ever_more_slowly() -> None:
    world = World(slots=1)
    starts = 0
    for _ in range(4):
        world.exit(0, m.Exit(code=1))
        assert 0 not in world.workers
        world.advance(20.0)
        starts += 0 in world.workers

    assert starts == 4
    assert world.gave_up is None


def test_the_pool_gives_up_when_no_worker_ever_starts() -> None:
    world = World(slots=1)
    for _ in range(START_FAILURES_MAX):
        world.exit(0, m.Exit(code=1, problem="ImportError: no module named nope"))
        world.advance(20.0)

    assert world.gave_up == "ImportError: no module named nope"


def test_jobs_that_nobody_can_run_are_given_back_when_workers_keep_failing_to_start(
    world: World,
) -> None:
    world.exit(0)
    world.exit(1)
    world.claim(job(1), job(2))
    world.advance(1.0)
    assert world.ended == {}

    for _ in range(START_FAILURES_MAX):
        world.exit(0, m.Exit(code=1))
        world.advance(20.0)

    assert {ended.verdict for ended in world.ended.values()} == {Verdict.RELEASED}
    assert sorted(world.ended) == [1, 2]
    assert world.gave_up is None
    assert world.pool.demand(world.pool.rooms()) == {}


def test_a_worker_that_never_gets_ready_is_killed() -> None:
    world = World(slots=1, start_timeout_s=90.0)

    world.advance(89.9)
    assert world.kills == []
    world.advance(0.2)

    assert world.kills == [(0, m.KillReason.START, None)]


def test_a_queues_cap_holds_whatever_else_is_free() -> None:
    world = World(
        slots=3,
        queues={
            "slow": QueueLimits(max_workers=1, timeout_s=10),
            "fast": QueueLimits(max_workers=9, timeout_s=10),
        },
    )
    world.all_ready()

    world.claim(*(job(n, queue="slow") for n in range(1, 4)), job(4, queue="fast"))

    using = [{held.job.queue for held in slot.in_flight} for slot in world.pool.slots]
    assert sum("slow" in queues for queues in using) == 1
    assert sum("fast" in queues for queues in using) == 1


def test_each_queue_has_its_own_timeout() -> None:
    world = World(
        queues={
            "slow": QueueLimits(max_workers=9, timeout_s=100),
            "fast": QueueLimits(max_workers=9, timeout_s=1),
        }
    )
    world.all_ready()
    world.claim(job(1, queue="slow"), job(2, queue="fast"))
    world.begin(0)
    world.begin(1)

    world.advance(1.5)

    assert [(reason, running) for _, reason, running in world.kills] == [(m.KillReason.TIMEOUT, 2)]


def test_an_idle_pool_demands_one_job_a_worker(world: World) -> None:
    assert world.pool.demand(world.pool.rooms()) == {"default": 2}


def test_a_busy_pool_of_long_jobs_demands_nothing(world: World) -> None:
    world.claim(job(1), job(2))

    assert world.pool.demand(world.pool.rooms()) == {}


def test_short_jobs_are_demanded_in_large_batches(world: World) -> None:
    known_short(world, seconds=0.00001)
    world.claim(job(1))

    assert world.pool.demand(world.pool.rooms()) == {"default": BACKLOG_JOBS - 1}


def test_a_timeout_that_a_worker_names_is_noticed_by_itself(world: World) -> None:
    world.claim(job(1))
    world.begin(0, timeout_s=0.5)

    world.advance(0.52)

    assert world.kills == [(0, m.KillReason.TIMEOUT, 1)]


def test_once_the_timeout_is_known_only_its_end_is_waited_for(world: World) -> None:
    world.claim(job(1))
    world.begin(0, timeout_s=7.0)
    world.advance(0.1)

    assert world.pool.next_deadline() == pytest.approx(world.workers[0].started_s + 7.0)


def test_a_long_job_is_looked_at_ever_more_rarely(world: World) -> None:
    world.claim(job(1))
    world.begin(0)
    world.advance(4.0)

    deadline = world.pool.next_deadline()

    assert deadline is not None
    assert deadline > world.now + 1.0


def test_an_idle_pool_sets_no_timer(world: World) -> None:
    assert world.pool.next_deadline() is None


def test_d7_a_job_that_is_claimed_again_while_it_runs_is_ended_first(world: World) -> None:
    world.claim(job(1))
    world.begin(0)

    world.claim(job(1, claim_seq=2), job(2, claim_seq=2))

    assert world.kills == [(0, m.KillReason.DISOWNED, 1)]
    assert world.ended[1].verdict is Verdict.RELEASED
    assert world.ended[1].job.claim_seq == 2
    world.exit(0)
    assert world.ended[1].job.claim_seq == 1
    assert world.held() == {2}


def test_d7_a_job_that_is_claimed_again_while_it_waits_runs_once(world: World) -> None:
    known_short(world)
    world.claim(*(job(n) for n in range(1, 6)))
    assert world.held() == {1, 2, 3, 4, 5}

    world.claim(*(job(n, claim_seq=2) for n in range(1, 7)))

    assert world.held() == {6}
    assert world.settled == dict.fromkeys(range(1, 6), 2)


def test_d7_a_job_that_is_claimed_a_third_time_while_it_runs_is_ended_all_the_same(
    world: World,
) -> None:
    world.claim(job(1))
    world.begin(0)
    world.claim(job(1, claim_seq=2))

    world.claim(job(1, claim_seq=3))

    assert world.ended[1].job.claim_seq == 3
    assert world.ended[1].verdict is Verdict.RELEASED
    world.exit(0)
    assert world.ended[1].job.claim_seq == 1
    world.claim(job(1, claim_seq=4))
    assert world.held() == {1}


def test_d7_a_job_that_comes_back_while_the_lease_is_lost_is_known_to_run_still(
    world: World,
) -> None:
    world.claim(job(1))
    world.begin(0)
    world.pool.fenced = True
    world.claim(job(1, claim_seq=2))
    world.pool.fenced = False

    world.claim(job(1, claim_seq=3))

    assert world.ended[1].job.claim_seq == 3
    assert world.ended[1].verdict is Verdict.RELEASED


def test_the_pool_has_a_method_for_each_event_and_for_nothing_else() -> None:
    assert set(Pool._METHOD_OF) == set(get_args(m.Event))
