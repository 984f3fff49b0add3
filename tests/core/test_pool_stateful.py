"""Any order of results, deaths, timeouts, cancels and claims, checked after every step."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.pool_world import World, fence, job
from support.weighted_world import budget_of, heavy
from synk.core import messages as m
from synk.core.keyed_jobs import LINGER_S
from synk.core.limits import QueueLimits

CHOICE = st.integers(min_value=0, max_value=1_000_000)


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(slots=1)
        self.next_id = 1
        self.cap = self.using = 4

    @initialize(
        slots=st.integers(1, 4),
        cap=st.integers(1, 4),
        cores=st.integers(2, 4),
        weighs=st.booleans(),
    )
    def make(self, slots: int, cap: int, cores: int, weighs: bool) -> None:
        # The budget is checked by the world, after each step.
        weights = {"a1": heavy(2, 3), "a3": heavy(memory=5), "b3": heavy(1, 4)}
        budget = budget_of(weights, cores=cores, memory=8, processes=slots)
        self.world = World(
            slots=slots,
            queues={
                "a": QueueLimits(max_workers=100, timeout_s=1.0),
                "b": QueueLimits(max_workers=cap, timeout_s=3.0),
            },
            budget=budget if weighs else None,
        )
        self.cap = self.using = cap

    def pick(self, choice: int, slots: list[int]) -> int:
        return slots[choice % len(slots)]

    def starting(self) -> list[int]:
        return [n for n, w in self.world.workers.items() if not w.ready]

    def able_to_begin(self) -> list[int]:
        return [n for n, w in self.world.workers.items() if w.waiting and w.running is None]

    def running(self) -> list[int]:
        return [n for n, w in self.world.workers.items() if w.running is not None]

    @rule(count=st.integers(1, 30), queue=st.sampled_from("ab"), priority=st.integers(1, 4))
    def claim(self, count: int, queue: str, priority: int) -> None:
        kind = f"{queue}{priority}"
        ids = range(self.next_id, self.next_id + count)
        self.next_id += count
        self.world.claim(*(job(n, kind=kind, queue=queue, priority=priority) for n in ids))

    @rule(
        count=st.integers(0, 12),
        permits=st.integers(0, 2),
        key=st.sampled_from(["x", "y"]),
        priority=st.integers(1, 4),
    )
    def claim_under_a_key(self, count: int, permits: int, key: str, priority: int) -> None:
        ids = range(self.next_id, self.next_id + count)
        self.next_id += count
        jobs = [job(n, kind=f"{key}{n % 2}", queue="a", priority=priority) for n in ids]
        self.world.claim_under(key, *jobs, permits=permits)

    @rule()
    def give_back_permits(self) -> None:
        self.world.give_back_permits()

    @precondition(lambda self: self.starting())
    @rule(choice=CHOICE)
    def get_ready(self, choice: int) -> None:
        self.world.ready(self.pick(choice, self.starting()))

    @precondition(lambda self: self.able_to_begin())
    @rule(choice=CHOICE, timeout_s=st.sampled_from([None, 0.5, 5.0]))
    def begin(self, choice: int, timeout_s: float | None) -> None:
        self.world.begin(self.pick(choice, self.able_to_begin()), timeout_s=timeout_s)

    @precondition(lambda self: self.running())
    @rule(choice=CHOICE, fails=st.booleans(), tell=st.booleans())
    def finish(self, choice: int, fails: bool, tell: bool) -> None:
        reply = m.Reply(error="{}") if fails else None
        self.world.finish(self.pick(choice, self.running()), reply, tell=tell)

    @rule(choice=CHOICE)
    def die(self, choice: int) -> None:
        if self.world.workers:
            self.world.exit(self.pick(choice, sorted(self.world.workers)))

    @rule(choice=CHOICE)
    def complete_a_death(self, choice: int) -> None:
        dying = [n for n, w in self.world.workers.items() if w.dying]
        if dying:
            self.world.exit(self.pick(choice, dying))

    @rule(seconds=st.sampled_from([0.0, 0.0001, 0.01, 0.3, 2.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(choice=CHOICE)
    def cancel(self, choice: int) -> None:
        held = sorted(self.world.held())
        if held:
            claimed = self.world.claimed[self.pick(choice, held)]
            self.world.handle(m.CancelRequested([fence(claimed)]))

    @rule(paused=st.sets(st.sampled_from("ab")), cap=st.integers(1, 4))
    def set_queues(self, paused: set[str], cap: int) -> None:
        self.cap = cap
        self.world.handle(m.QueuesSet(frozenset(paused), {"a": 100, "b": cap}))

    @rule(seconds=st.sampled_from([0.0, 1.0]))
    def drain(self, seconds: float) -> None:
        self.world.handle(m.DrainRequested(self.world.now + seconds))

    @invariant()
    def every_job_is_settled_once_or_held(self) -> None:
        self.world.check()

    @invariant()
    def no_late_job_escapes_its_kill(self) -> None:
        self.world.look()
        for worker in self.world.workers.values():
            if worker.running is not None and not worker.dying:
                queue = self.world.queues[worker.running[1].queue]
                limit = worker.timeout_s or queue.timeout_s
                assert self.world.now < worker.started_s + limit

    @invariant()
    def a_queues_cap_holds(self) -> None:
        using = sum(
            any(h.job.queue == "b" for h in slot.in_flight) for slot in self.world.pool.slots
        )
        # Where it was lowered, what has begun may go on.
        assert using <= max(self.cap, self.using)
        self.using = using

    @invariant()
    def nothing_of_a_paused_queue_is_where_it_could_begin(self) -> None:
        pool = self.world.pool
        for worker in self.world.workers.values():
            assert not [job for _, job in worker.waiting if job.queue in pool.paused]
        assert not [job for job in pool.backlog if job.queue in pool.paused]
        assert not pool.demand(pool.rooms()).keys() & pool.paused
        running = [slot for slot in pool.slots if slot.in_flight and not slot.running]
        is_sure = not any(slot.in_flight[0].job.queue in pool.paused for slot in running)
        assert pool.held_claims.may_begin(pool.paused) is not is_sure

    def teardown(self) -> None:
        """From wherever it got, a drain ends with everything settled and no process."""
        world = self.world
        world.handle(m.DrainRequested(world.now))
        for _ in range(50):
            for slot in list(world.workers):
                world.exit(slot)
            world.look()
        assert world.pool.is_stopped
        assert not world.held()
        world.check()
        world.now += LINGER_S
        world.give_back_permits()
        assert not any(world.permits.values()), "a permit is left"


PoolMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestPool = PoolMachine.TestCase
