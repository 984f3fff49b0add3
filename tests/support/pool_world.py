"""A world without processes for the pool: slots whose workers do what a test tells them.

It keeps the shell's side of the contract (batches in order, a recall takes back exactly what has
not begun) and notes what became of every job.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict, deque
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from synk.claim import ClaimedJob, Fence
from synk.config import EngineConfig
from synk.core import messages as m
from synk.core.limits import QueueLimits
from synk.core.pool import Pool
from synk.core.slot import SlotState
from synk.core.weights import Budget
from synk.limit import Permit
from synk.retry import EndedAttempt, Verdict

EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc).timestamp()


def job(
    job_id: int,
    *,
    kind: str = "kind",
    queue: str = "default",
    priority: int = 3,
    claim_seq: int = 1,
    **changed: Any,
) -> ClaimedJob:
    plain = ClaimedJob(
        id=job_id,
        attempt=1,
        kind=kind,
        priority=priority,
        scheduled_at=EPOCH,
        max_attempts=3,
        uncounted=0,
        name=f"job {job_id}",
        created_at=EPOCH,
        attempted_at=EPOCH,
        args="{}",
        history=None,
        queue=queue,
        claim_seq=claim_seq,
    )
    return structs.replace(plain, **changed)


def fence(claimed: ClaimedJob) -> Fence:
    return Fence(claimed.id, claimed.attempt, claimed.claim_seq)


@dataclass
class FakeWorker:
    """One process: what it was sent and has not begun, what it runs, what it has done."""

    waiting: deque[tuple[int, ClaimedJob]] = field(default_factory=deque)
    running: tuple[int, ClaimedJob] | None = None
    started_s: float = 0.0
    timeout_s: float | None = None
    soft_s: float | None = None
    rss_max: int | None = None
    done: int = 0
    measures: list[tuple[int, int, int, int]] = field(default_factory=list)
    replies: dict[int, m.Reply] = field(default_factory=dict)
    expected_number: int = 1
    ready: bool = False
    dying: bool = False

    def report(self) -> m.Report:
        measures, self.measures = self.measures, []
        replies, self.replies = self.replies, {}
        return m.Report(
            done=self.done,
            measures=measures,
            replies=replies,
            running=self.running[0] if self.running else 0,
            started_s=self.started_s,
            timeout_s=self.timeout_s,
            soft_s=self.soft_s,
            rss_max=self.rss_max,
        )

    def take_back(self) -> int:
        taken = len(self.waiting)
        if taken:
            self.expected_number = self.waiting[0][0]
        self.waiting.clear()
        return taken


class World:
    def __init__(
        self,
        *,
        slots: int = 2,
        queues: dict[str, QueueLimits] | None = None,
        budget: Budget | None = None,
        limited: Container[str] | None = None,
        **engine: Any,
    ) -> None:
        self.queues = queues or {"default": QueueLimits(max_workers=100, timeout_s=10.0)}
        self.budget = budget
        self.pool = Pool(
            EngineConfig(processes=slots, **engine), self.queues, limited=limited, budget=budget
        )
        self.asked: list[tuple[int, int, m.Request]] = []
        self.now = 100.0
        self.workers: dict[int, FakeWorker] = {}
        self.kills: list[tuple[int, m.KillReason, int | None]] = []
        self.settled: Counter[int] = Counter()
        self.successes: list[int] = []
        self.ended: dict[int, EndedAttempt] = {}
        self.claimed: dict[int, ClaimedJob] = {}
        self.key_of: dict[int, str] = {}
        self.performed: list[m.Command] = []
        self.permits: defaultdict[str, set[Permit]] = defaultdict(set)
        self.executed: Counter[int] = Counter()
        self.finished: set[int] = set()
        self.gave_up: str | None = None
        self._events: deque[m.Event] = deque()
        self.handle(m.Tick())

    # -- the shell ------------------------------------------------------------------------------

    def handle(self, event: m.Event) -> None:
        self._events.append(event)
        if len(self._events) > 1:
            return
        while self._events:
            for command in self.pool.handle(self._events[0], self.now):
                self._perform(command)
            self._events.popleft()

    def _send(self, command: m.Send) -> None:
        worker = self.workers[command.slot]
        assert worker.ready
        assert command.first == worker.expected_number, "batches overtook each other"
        for number, claimed in enumerate(command.jobs, command.first):
            worker.waiting.append((number, claimed))
        worker.expected_number += len(command.jobs)

    def _perform(self, command: m.Command) -> None:
        self.performed.append(command)
        match command:
            case m.Spawn():
                assert command.slot not in self.workers
                self.workers[command.slot] = FakeWorker()
            case m.Send():
                self._send(command)
            case m.Recall():
                worker = self.workers[command.slot]
                taken = worker.take_back()
                self.handle(m.Recalled(command.slot, worker.report(), taken))
            case m.Kill():
                worker = self.workers[command.slot]
                assert not worker.waiting, "killed with jobs that it might begin"
                running = worker.running[1].id if worker.running else None
                self.kills.append((command.slot, command.reason, running))
                worker.dying = True
            case m.Ask():
                assert command.slot in self.workers
                self.asked.append((command.slot, command.number, command.request))
            case m.Dismiss():
                worker = self.workers[command.slot]
                assert not worker.waiting
                assert worker.running is None
                worker.dying = True
            case m.GiveUp():
                self.gave_up = command.problem
            case m.Settle():
                self._settle(command)

    def _settle(self, command: m.Settle) -> None:
        for claimed, _, _ in command.successes:
            self.settled[claimed.id] += 1
            self.successes.append(claimed.id)
        for ended in command.ended:
            self.settled[ended.job.id] += 1
            self.ended[ended.job.id] = ended

    # -- what tests do to it ----------------------------------------------------------------------

    def claim(self, *jobs: ClaimedJob) -> None:
        self.claimed.update({claimed.id: claimed for claimed in jobs})
        self.handle(m.Claimed(jobs))

    def claim_under(self, key: str, *jobs: ClaimedJob, permits: int = 0) -> None:
        """Claims *jobs* under one key, with so many new permits for it."""
        self.claimed.update({claimed.id: claimed for claimed in jobs})
        self.key_of.update({claimed.id: key for claimed in jobs})
        first = len(self.permits[key])
        new = [Permit(key, number, 1) for number in range(first, first + permits)]
        self.permits[key].update(new)
        self.handle(m.Claimed(jobs, {claimed.id: key for claimed in jobs}, new))

    def give_back_permits(self) -> list[Permit]:
        given = self.pool.give_back_permits(self.now)
        for permit in given:
            self.permits[permit.key].remove(permit)
        return given

    def workers_with(self, key: str) -> int:
        """How many processes have, or may have begun, jobs of a key."""
        return sum(
            any(
                self.key_of.get(claimed.id) == key
                for _, claimed in (*worker.waiting, *([worker.running] if worker.running else ()))
            )
            for worker in self.workers.values()
        )

    def ready(self, slot: int) -> None:
        self.workers[slot].ready = True
        self.handle(m.WorkerReady(slot))

    def all_ready(self) -> None:
        for slot in sorted(self.workers):
            self.ready(slot)

    def begin(
        self,
        slot: int,
        *,
        timeout_s: float | None = None,
        soft_s: float | None = None,
        rss_max: int | None = None,
    ) -> int:
        worker = self.workers[slot]
        worker.running = worker.waiting.popleft()
        worker.started_s = self.now
        worker.timeout_s, worker.soft_s, worker.rss_max = timeout_s, soft_s, rss_max
        self.executed[worker.running[1].id] += 1
        return worker.running[1].id

    def finish(self, slot: int, reply: m.Reply | None = None, *, tell: bool = True) -> int:
        worker = self.workers[slot]
        assert worker.running is not None
        number, claimed = worker.running
        worker.running = None
        worker.done = number
        took_us = round((self.now - worker.started_s) * 1e6)
        worker.measures.append((took_us, took_us, 0, 0))
        if reply is not None:
            worker.replies[number] = reply
        self.finished.add(claimed.id)
        if tell:
            self.tell(slot)
        return claimed.id

    def tell(self, slot: int) -> None:
        self.handle(m.Reported(slot, self.workers[slot].report()))

    def exit(self, slot: int, exit_: m.Exit | None = None) -> None:
        worker = self.workers.pop(slot)
        taken = worker.take_back()
        exit_ = exit_ or m.Exit(code=-9, signal="SIGKILL", pid=1)
        self.handle(m.WorkerExited(slot, worker.report(), taken, exit_))

    def advance(self, seconds: float) -> None:
        """Lets time pass, and the pool look whenever it asked to, with fresh reports first."""
        end = self.now + seconds
        for _ in range(1000):
            deadline = self.pool.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.look()
        self.now = end
        self.look()

    def look(self) -> None:
        for slot, worker in list(self.workers.items()):
            if worker.ready and slot in self.workers:
                self.tell(slot)
        self.handle(m.Tick())

    def run_one(self, slot: int, seconds: float = 0.0, reply: m.Reply | None = None) -> int:
        self.begin(slot)
        self.now += seconds
        return self.finish(slot, reply)

    def held(self) -> set[int]:
        waiting = {
            claimed.id
            for queue in self.pool.backlog.queues.values()
            for line in queue._lines.values()
            for claimed in line
        }
        waiting |= {claimed.id for claimed in self.pool.backlog.keyed}
        withheld = {ended.job.id for slot in self.pool.slots for ended in slot.withheld}
        waiting |= {claimed.id for claimed in self.pool.backlog.aside}
        return waiting | withheld | {c.job.id for slot in self.pool.slots for c in slot.in_flight}

    def check(self) -> None:
        """What must hold at any time."""
        held = self.held()
        for job_id in self.claimed:
            assert self.settled[job_id] + (job_id in held) == 1, f"job {job_id} lost or doubled"
        for job_id in self.successes:
            assert job_id in self.finished
        for job_id, ended in self.ended.items():
            if ended.verdict is Verdict.RELEASED and job_id in self.finished:
                raise AssertionError(f"job {job_id} was finished and given back")
        for job_id, count in self.executed.items():
            assert count == 1, f"job {job_id} ran twice under one claim"
        for key, permits in self.permits.items():
            assert self.workers_with(key) <= len(permits), f"too many workers have jobs of {key}"
        for slot in self.pool.slots:
            assert (slot.state is SlotState.VACANT) == (slot.number not in self.workers)
        if self.budget is not None:
            self._check_budget(self.budget)

    def _check_budget(self, budget: Budget) -> None:
        """What is at the workers is never more than there is, and nothing waits at a heavy one."""
        cores, memory = 0.0, 0
        for worker in self.workers.values():
            held = [claimed for _, claimed in worker.waiting]
            held += [worker.running[1]] if worker.running else []
            weights = [budget.weights.get(claimed.kind) for claimed in held]
            heavy = next(filter(None, weights), None)
            assert heavy is None or len(held) == 1
            plain = min(1.0, budget.cores / len(self.pool.slots)) if held else 0.0
            cores += plain if heavy is None or heavy.cores is None else heavy.cores
            memory += 0 if heavy is None else heavy.memory
        assert cores <= budget.cores + 1e-9
        assert memory <= budget.memory
