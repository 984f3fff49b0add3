"""Three supervisors, producers, and everything that can go wrong, in one seeded history."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Final
from uuid import UUID

from simulation import ticks, workers
from simulation.ledger import Ledger
from simulation.line import Line
from simulation.node import KEYED_KIND, KIND, LIMIT, TTL_S, Node
from simulation.pauses import Operator
from simulation.schedule import Schedule
from support.checking import (
    Execution,
    Overlap,
    i1_missing,
    i12_unexecuted,
    i13_repeated,
    i14_overlaps,
    i15_too_long,
    i21_most_at_once,
    l1_crowds,
)
from support.model import ModelStorage
from synk import telemetry
from synk.core.ownership import BEATS_A_TTL, OwnLease
from synk.errors import NotUnique, StorageUnavailable, UnknownDependency
from synk.insertion import JobOptions, NewJob, cannot_be_doubled
from synk.storage.statements import client_id_of
from synk.unique import Unique

NODES: Final = 3
TROUBLE_S: Final = 20.0
"""How long things go wrong."""

STOPPED_S: Final = 15.0
"""From the end of the trouble to the end of ticks."""

CALM_S: Final = 300.0
"""How long the rest may take then: retries wait up to 20 s each, and clocks are set back."""

FORGOTTEN_S: Final = 5.0
"""From a claim that a fail-over loses to the beginning of its jobs, at the most."""

GIVEN_UP_S: Final = 2 * TTL_S / BEATS_A_TTL + workers.KILL_S
"""From a fail-over to the end of what it forgot: the next beat finds its connection broken."""

TROUBLES: Final = (
    "freeze", "freeze", "crash", "crash", "drain", "cut", "cut_all", "lose", "set_the_clock",
    "kill_a_worker", "fail_over",
)  # fmt: skip

PERMITS_S: Final = TTL_S + 10.0
"""From the end of all work to that of the last permit."""
DECLARED: Final = ticks.declared(KIND)

PAUSED_SHARE: Final = 0.5
"""Of the histories, somebody pauses the queue in."""

LAST_EVENTS: Final = 60


@dataclass(frozen=True)
class StoodStill:
    """A time in which a supervisor's machine did not run."""

    owner: str
    began: float
    ended: float


class World:
    """One history. Everything that chance decides is decided by the seed.

    Args:
        seed: names the history.
        make_storage: makes the storage, perhaps a broken one.
        make_lease: the supervisors' notion of their leases, perhaps a broken one.
        troubles: what may go wrong, each as often as it is named; nothing: nothing goes wrong.
    """

    def __init__(
        self,
        seed: int,
        *,
        make_storage: Callable[[], ModelStorage] = ModelStorage,
        make_lease: Callable[[float], OwnLease] = OwnLease,
        troubles: Sequence[str] = TROUBLES,
    ) -> None:
        self.chance = Random(seed)
        self.schedule = Schedule()
        storage = make_storage()
        storage.settled_at_once = 1
        storage.keys_of = {KEYED_KIND: LIMIT}
        self.ledger = Ledger(self.schedule, storage, TTL_S)
        self.last: deque[str] = deque(maxlen=LAST_EVENTS)
        self.counts: Counter[str] = Counter()
        self.stood_still: list[StoodStill] = []
        self.failed_over: list[float] = []
        self.rescued_at: list[float] = []
        self.known: list[int] = []
        """Jobs whose insert was confirmed."""
        self.all_nodes: list[Node] = []
        self._make_lease = make_lease
        self._troubles = troubles
        self._only_fails_over = set(troubles) <= {"fail_over"}
        self._losses = 0.0 if self._only_fails_over else 0.01
        self._more_lines: list[Line] = []
        self.producer = self._line(self.schedule.pass_time)
        self.nodes = [self._start(place) for place in range(NODES)]
        self._plan_work()
        if troubles:
            self._plan_trouble()
        self.schedule.at(TROUBLE_S, self._calm_down)
        self.operator = self._operator(seed)

    def _operator(self, seed: int) -> Operator | None:
        """By a chance of its own, so that histories without one are what they would be."""
        chance = Random(f"pauses {seed}")
        return self._hired(chance, TROUBLE_S) if chance.random() < PAUSED_SHARE else None

    def _hired(self, chance: Random, until: float, at: float | None = None) -> Operator:
        line = self._line(self.schedule.pass_time)
        self._more_lines.append(line)
        return Operator(
            self.schedule, self.ledger, line, chance, until=until, note=self.note, at=at
        )

    def pause_once(self, at: float, *, until: float) -> None:
        """Has the queue paused once, for so long, and by nobody else."""
        if self.operator is not None:
            self.operator.is_off = True
        self.operator = self._hired(self.chance, until, at)

    def insert_many(self, count: int) -> None:
        self._insert_as(None, [self._new_job(None, number) for number in range(1, count + 1)])

    # -- the history ------------------------------------------------------------------------------

    def run(self) -> None:
        """Lives it through.

        Raises:
            AssertionError: a promise was broken.
        """
        while self.schedule.now < TROUBLE_S or not self._is_all_over():
            assert self.schedule.now < TROUBLE_S + CALM_S, self._unfinished()
            self.schedule.pass_time(1.0)
        self._see_permits_go()
        self._check()

    def _see_permits_go(self) -> None:
        """Those of the dead go with the rescue, and the others when there is no work for them."""
        ends_at = self.schedule.now + PERMITS_S
        while self.ledger.storage.held_permits:
            left = self.ledger.storage.held_permits
            assert self.schedule.now < ends_at, f"L2: a permit is left: {left}"
            self.schedule.pass_time(0.5)

    def _is_all_over(self) -> bool:
        return all(image.state.is_final for image in self.ledger.images())

    def _unfinished(self) -> str:
        left = [image for image in self.ledger.images() if not image.state.is_final]
        return f"I18: {CALM_S:.0f} s after the trouble these are not over: {left}"

    def note(self, text: str) -> None:
        self.last.append(f"{self.schedule.now:9.3f}  {text}")

    def _hear(self, fact: telemetry.Fact) -> None:
        self.note(f"{type(fact).__name__}: {fact}")
        self.counts[type(fact).__name__] += 1
        if isinstance(fact, telemetry.JobsRescued):
            self.rescued_at.append(self.schedule.now)
        if isinstance(fact, telemetry.JobsReconciled):
            for name in ("again", "ghosts", "strays", "gone"):
                self.counts[name] += getattr(fact, name)

    # -- supervisors ------------------------------------------------------------------------------

    def _line(self, wait: Callable[[float], None]) -> Line:
        line = Line(self.schedule, self.ledger, self.chance, wait)
        line.losses = self._losses
        return line

    def _start(self, place: int) -> Node:
        facts = telemetry.Telemetry()
        facts.subscribe(self._hear)
        node = Node(
            self.schedule,
            UUID(int=len(self.all_nodes) + 1),
            self.chance,
            facts,
            make_line=self._line,
            make_lease=self._make_lease,
            on_end=lambda: self._start_later(place, self.chance.uniform(0, 1)),
            complete=self.ledger.complete,
            periodic=self.chance.choice(DECLARED),
        )
        self.all_nodes.append(node)
        self.note(f"supervisor {node.name} starts")
        return node

    def _start_later(self, place: int, seconds: float) -> None:
        def start() -> None:
            self.nodes[place] = self._start(place)

        self.schedule.after(seconds, start)

    # -- producers --------------------------------------------------------------------------------

    def _plan_work(self) -> None:
        for number in range(self.chance.randint(8, 25)):
            at = self.chance.uniform(0, TROUBLE_S)
            self.schedule.at(at, lambda number=number: self._insert(number))
            if self.chance.random() < 0.25:
                self.schedule.at(at + self.chance.uniform(0, 5), self._change_one)
        for _ in range(self.chance.randint(0, 3)):
            self.schedule.at(self.chance.uniform(0, TROUBLE_S), self._pause_one)
        for _ in range(self.chance.randint(0, 12)):
            at = self.chance.uniform(0, TROUBLE_S)
            self.schedule.at(at, lambda: self._insert_unique(self._new_unique_job()))

    def _insert_unique(self, job: NewJob) -> None:
        """Inserts a job that is unique; again and again if the answers are lost and it is safe."""
        try:
            (job_id,) = self.producer.insert_unique([job])
        except StorageUnavailable:
            if cannot_be_doubled([job]):
                self.schedule.after(0.5, lambda: self._insert_unique(job))
            return
        except NotUnique:
            self.counts["kept out"] += 1
            return
        self.counts["met another"] += job_id.existed is True
        self.known += [int(job_id)] if job_id not in self.known else []

    def _new_unique_job(self) -> NewJob:
        chance = self.chance
        unique = Unique(
            until=chance.choice(["started", "finished"]),
            on_conflict=chance.choice(["skip", "skip", "replace", "raise"]),
        )
        is_later = unique.on_conflict != "replace" and chance.random() < 0.3
        at = self.ledger.now() + timedelta(seconds=chance.uniform(0, 5))
        options = JobOptions(
            max_retries=chance.randint(0, 2), scheduled_at=at if is_later else None, unique=unique
        )
        args = f'{{"tenant": {chance.randint(1, 2)}}}'
        chosen = unique.chosen(KIND, options.queue, args)
        return NewJob(name="unique", kind=KIND, args=args, options=options, chosen=chosen)

    def _pause_one(self) -> None:
        name = self.chance.choice(DECLARED[0]).name
        self._set(name, "pause_schedule")
        self.schedule.after(self.chance.uniform(0, 5), lambda: self._set(name, "resume_schedule"))

    def _set(self, name: str, method: str) -> None:
        try:
            answer = getattr(self.producer, method)(name)
        except StorageUnavailable:
            answer = "?"
        self.note(f"{method} {name}: {answer}")

    def _stop_ticks(self) -> None:
        for each in DECLARED[0]:
            self.ledger.call("pause_schedule", each.name)

    def _insert(self, number: int) -> None:
        key = f"k{number}" if self.chance.random() < 0.7 else None
        self._insert_as(key, [self._new_job(key, number) for _ in range(self.chance.randint(1, 3))])

    def _insert_as(self, key: str | None, jobs: list[NewJob]) -> None:
        """Inserts; again and again if the answers are lost and that is safe."""
        try:
            ids = self.producer.insert(jobs)
        except StorageUnavailable:
            if key is not None:
                self.schedule.after(0.5, lambda: self._insert_as(key, jobs))
            return
        except UnknownDependency:
            assert self.failed_over, "I1: a job that was inserted is gone"
            return
        self.known += [id for id in ids if id not in self.known]

    def _new_job(self, key: str | None, number: int) -> NewJob:
        chance = self.chance
        needed = [chance.choice(self.known)] if self.known and chance.random() < 0.3 else []
        at = self.ledger.now() + timedelta(seconds=chance.uniform(0, 5))
        options = JobOptions(
            max_retries=chance.randint(0, 2),
            scheduled_at=at if chance.random() < 0.3 else None,
            depends_on=tuple(needed),
            idempotency_key=None if key is None else f"{key} {chance.random()}",
        )
        name = workers.OWN_END if number % 4 == 0 else "name"
        if chance.random() < 0.6:
            kind = {1: "heavy", 3: "roomy"}.get(number % 5, KIND)
            return NewJob(name=name, kind=kind, args="{}", options=options)
        args = f'{{"key": "{chance.choice("ab")}"}}'
        return NewJob(name=name, kind=KEYED_KIND, args=args, options=options)

    def _change_one(self) -> None:
        if self.known:
            change = "retry" if self.chance.random() < 0.2 else "cancel"
            job_id = self.chance.choice(self.known)
            try:
                answer = getattr(self.producer, change)(job_id)
            except StorageUnavailable:
                answer = "?"
            self.note(f"{change} of job {job_id}: {answer}")

    # -- trouble ----------------------------------------------------------------------------------

    def _plan_trouble(self) -> None:
        for _ in range(self.chance.randint(3, 9)):
            trouble = getattr(self, f"_{self.chance.choice(self._troubles)}")
            self.schedule.at(self.chance.uniform(1, TROUBLE_S - 1), trouble)

    def _freeze(self) -> None:
        node = self.chance.choice(self.nodes)
        self.freeze(node, TTL_S * self.chance.choice([0.1, 0.5, 1.0, 1.5, 3.0]))

    def freeze(self, node: Node, seconds: float) -> None:
        now = self.schedule.now
        node.stand_still(seconds)
        self.stood_still.append(StoodStill(client_id_of(node.owner), now, now + seconds))
        self.note(f"supervisor {node.name} stands still for {seconds:.1f} s")

    def _crash(self) -> None:
        self.crash(self.chance.randrange(NODES), self.chance.uniform(0, 3))

    def crash(self, place: int, seconds: float) -> None:
        node = self.nodes[place]
        if not node.is_gone:
            self.note(f"supervisor {node.name} crashes")
            node.crash()
            self._start_later(place, seconds)

    def _drain(self) -> None:
        node = self.chance.choice(self.nodes)
        self.note(f"supervisor {node.name} is told to stop")
        node.drain(self.chance.uniform(0, 5))

    def _cut(self) -> None:
        self._cut_line(self.chance.choice(self.nodes).line, self.chance.uniform(0.5, 15))

    def _cut_all(self) -> None:
        seconds = self.chance.uniform(0.5, 12)
        for line in self._lines():
            self._cut_line(line, seconds)

    def _lines(self) -> list[Line]:
        return [*(node.line for node in self.nodes), self.producer, *self._more_lines]

    def _cut_line(self, line: Line, seconds: float) -> None:
        line.cut_until = self.schedule.now + seconds
        line.hangs = self.chance.random() < 0.5
        self.note(f"a line is cut for {seconds:.1f} s, {'silently' if line.hangs else 'loudly'}")

    def _lose(self) -> None:
        self.note("messages get lost")
        for line in self._lines():
            line.losses = 0.3
        self.schedule.after(self.chance.uniform(1, 6), self._lose_less)

    def _lose_less(self) -> None:
        for line in self._lines():
            line.losses = min(line.losses, self._losses)

    def _set_the_clock(self) -> None:
        self.set_the_clock(self.chance.choice([-10.0, -3.0, 3.0, 60.0, 3600.0]))

    def set_the_clock(self, seconds: float) -> None:
        self.ledger.stepped_s += seconds
        self.note(f"the storage's clock is set by {seconds:+.0f} s")

    def _kill_a_worker(self) -> None:
        node = self.chance.choice(self.nodes)
        busy = node.workers.busy_slots()
        if busy and not node.is_gone:
            slot = self.chance.choice(busy)
            self.note(f"worker {slot} of supervisor {node.name} is killed")
            node.workers.crash(slot)

    def _fail_over(self) -> None:
        standby = self.ledger.copied()

        def fail_over() -> None:
            self.note("the storage fails over, and loses what was committed lately")
            self.ledger.fail_over(standby)
            for line in self._lines():
                line.reset()
            self.failed_over.append(self.schedule.now)

        self.schedule.after(self.chance.uniform(0.01, 0.5), fail_over)

    def _calm_down(self) -> None:
        self.note("calm")
        self._losses = 0.0
        self._lose_less()
        # Those that were asked to go on have done so by then.
        self.schedule.after(STOPPED_S, self._stop_ticks)

    # -- the promises -----------------------------------------------------------------------------

    def executions(self) -> list[Execution]:
        now = self.schedule.now
        return [
            replace(each, seen=min(each.seen, now))
            for node in self.all_nodes
            for each in node.workers.executions
        ]

    def _check(self) -> None:
        executions = self.executions()
        images = {image.id: image for image in self.ledger.images()}
        done = [image for image in images.values() if image.state == "completed"]
        problems = [
            *i1_missing(set(self.known) - self.ledger.lost, images.keys()),
            *i12_unexecuted(done, executions),
            *i13_repeated(executions),
            *i15_too_long(executions, self._longest_s),
        ]
        assert not problems, str(problems[0])
        for each in executions:
            claim = (each.job_id, each.attempt, each.owner, each.claim_seq)
            assert claim in self.ledger.claims, f"I13: nobody claimed {each}"
        self._check_own_ends()
        for overlap in i14_overlaps(executions):
            excuse = self._excuse_of(overlap)
            assert excuse, f"I14: {overlap}"
            self.counts[excuse] += 1
        self._check_limits(executions)
        if self.operator is not None:
            begun = self.operator.broken_by(executions)
            assert not begun, f"Q1: it began after a pause was in force: {begun[0]}"
            self.counts.update(self.operator.counts)
        # What it gave up itself may come back with a fail-over, or has to run again where its own
        # transaction is lost, and nothing else.
        back = self.counts["gone"] + self.ledger.undone
        assert self.counts["strays"] <= back, "a supervisor forgot what it ran"
        most = i21_most_at_once(executions)
        assert max(most.values(), default=0) <= workers.SLOTS, f"I21: {most}"
        self.counts.update(self.ledger.counts)
        self.counts.update(self.ledger.ticks.counts)
        self.counts["executions"] += len(executions)
        self.counts["full of heavy jobs"] += sum(
            each.workers.has_been_full for each in self.all_nodes
        )

    def _check_limits(self, executions: Sequence[Execution]) -> None:
        """No more processes are at work for a key than its limit says, whatever the rows say."""
        assert LIMIT.running is not None
        by_key: dict[str, list[Execution]] = defaultdict(list)
        for each in executions:
            if each.job_id in self.ledger.keys:
                by_key[self.ledger.keys[each.job_id]].append(each)
        for key, of_key in by_key.items():
            self.counts["limits reached"] += len(l1_crowds(of_key, LIMIT.running - 1)) > 0
            for crowd in l1_crowds(of_key, LIMIT.running):
                excuse = self._excuse_of_crowd(crowd)
                assert excuse, f"L1: too many processes are at work for {key}: {crowd}"
                self.counts[excuse] += 1

    def _excuse_of_crowd(self, crowd: Sequence[Execution]) -> str:
        last = crowd[-1]
        for first in crowd[:-1]:
            if excuse := self._excuse_of(Overlap(first, last)):
                return f"crowd: {excuse}"
        return ""

    def _check_own_ends(self) -> None:
        """A job that completes itself is completed where its writes are, and nowhere else."""
        for row in self.ledger.completed_rows():
            if row.name == workers.OWN_END and not self.failed_over:
                assert (row.id, row.attempt) in self.ledger.effects, f"its writes are lost: {row}"
            if not self._troubles:
                assert row.duration is not None, f"it has no account: {row}"

    def _longest_s(self, execution: Execution) -> float:
        bound_s = (workers.TIMEOUT_S + workers.GRACE_S + workers.KILL_S) * 1.02
        return bound_s + sum(
            pause.ended - pause.began
            for pause in self.stood_still
            if pause.owner == execution.owner
        )

    def _excuse_of(self, overlap: Overlap) -> str:
        """Says why two executions of one job may have run at one time; empty: they may not."""
        first, second = overlap.first, overlap.second
        for pause in self.stood_still:
            # It could not stop its own work.
            if (pause.owner, pause.began < second.began) == (first.owner, True) and (
                pause.ended > first.began
            ):
                return "overlaps of one that stood still"
        ended = second.began + overlap.seconds
        for at in self.failed_over:
            # The claim, or the beginning of its owner's lease, was lost.
            is_prompt = not self._only_fails_over or ended - at <= GIVEN_UP_S
            if first.began - FORGOTTEN_S <= at <= second.seen and is_prompt:
                return "overlaps after a fail-over"
        return ""


def described(world: World, seed: int, problem: object) -> str:
    """Says how a history came to its bad end."""
    events = "\n".join(world.last)
    again = f"SYNK_TEST_SEEDS={seed} pytest tests/simulation -k any_history"
    return f"seed {seed}: {problem}\nthe last events:\n{events}\nagain: {again}"
