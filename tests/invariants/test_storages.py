"""Any order of everything that can be done to jobs, on the model and on PostgreSQL side by side.

Both get the same calls, must give the same answers and end up with the same rows; and after every
step each of them must keep what is promised. The names of the checks begin with the numbers of the
promises that they are about.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import structs

from support import broken
from support.checking import Image
from support.jobs.own_ends import completes_itself
from support.model import ModelStorage
from support.servers import Server
from support.sides import KeptInModel, KeptInPostgres, Side, agreed
from synk.claim import AckAnswer, ClaimedJob, Fence, Outcome
from synk.failure import AttemptError, Cause
from synk.job import Job
from synk.retry import Verdict, judge
from synk.row import Change, JobRow, JobState, Priority
from synk.status import JobProgress, Lease
from synk.storage.postgres import PostgresStorage
from synk.storage.statements import client_id_of
from synk.testing.making import status_of

TTL = dt.timedelta(hours=1)
"""Far longer than an example takes, so that only what a test says lets a lease run out."""

MINUTES = (1, 10, 40, 61, 11 * 60)
ALL = 1_000
CHOICE = st.integers(min_value=0, max_value=1_000_000)
KINDS = ("a", "b")
QUEUES = ("default", "slow")

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.sampled_from(Priority),
        "queue": st.sampled_from(QUEUES),
        "scheduled_at": st.sampled_from([-1, -1, -1, 10]),
        "pending": st.sampled_from([False, False, False, True]),
        "max_retries": st.integers(0, 2),
        "idempotency_key": st.sampled_from(["k1", "k2", "k3"]),
        "depends_on": st.lists(CHOICE, max_size=3),
    },
)
WANTED = st.lists(st.tuples(st.sampled_from(KINDS), OPTIONS), min_size=1, max_size=4)
ENDS = (
    *("succeeded", "failed", "failed for long", "crashed", "cancelled", "released"),
    *("snoozed", "snoozed for no time", "gave up"),
)
FENCES = ("its own", "another owner", "another claim")


@dataclass(frozen=True)
class Claim:
    """One claim of one job, as each side gave it."""

    owner: uuid.UUID
    number: int
    jobs: Sequence[ClaimedJob]


def without_account(row: JobRow | None) -> JobRow | None:
    """Returns a row without what is added when a job completed itself."""
    added = ("duration", "cpu_time", "system_time", "peak_rss_bytes", "pid", "progress")
    return row and replace(row, output="", **dict.fromkeys(added))


def changes(before: dict[int, JobRow], after: dict[int, JobRow]) -> int:
    """Returns how many rows changed; each of them must have completed without an account."""
    changed = [row for number, row in before.items() if row != after[number]]
    assert all(row.state is JobState.COMPLETED and row.duration is None for row in changed)
    return len(changed)


class StorageMachine(RuleBasedStateMachine):
    def __init__(self, sides: Sequence[Side]) -> None:
        super().__init__()
        self.sides = sides
        self.clock = dt.timedelta()
        self.owners: list[uuid.UUID] = []
        self.living: set[uuid.UUID] = set()
        """Owners that have not stopped and were not declared dead."""
        self.beat_at: dict[uuid.UUID, dt.timedelta] = {}
        self.claims: list[Claim] = []
        self.claim_seq = 0
        self.alive: set[int] = set()
        self.off: set[int] = set()
        """Jobs that were cancelled, by the answer, and not retried since."""
        self.to_be_off: dict[int, int] = {}
        """Running jobs whose cancel was requested, and the attempt that ran."""
        self.repeat: Callable[[Side], Any] = lambda side: None
        self.old_leases: list[tuple[Lease, ...]] = []
        self.is_sound = False
        """Whether nothing has failed so far."""

    # -- doing the same to all --------------------------------------------------------------------

    def do(self, ask: Callable[[Side], Any], *, on_request: bool = False) -> Any:
        self.is_sound = False
        answer = agreed(self.sides, ask)
        for side in self.sides:
            side.look(on_request=on_request)
        self.is_sound = True
        return answer

    @property
    def rows(self) -> dict[int, JobRow]:
        return self.sides[0].rows

    def has_jobs(self) -> bool:
        return bool(self.sides[0].ids)

    def pick(self, choice: int, values: Sequence[Any]) -> Any:
        return values[choice % len(values)]

    def picked(self, choice: int) -> int:
        """Picks a job; now and then one that is gone."""
        return choice % len(self.sides[0].ids)

    def other_than(self, owner: uuid.UUID) -> uuid.UUID:
        return next(other for other in self.owners if other != owner)

    # -- producers --------------------------------------------------------------------------------

    @initialize(wanted=WANTED)
    def begin(self, wanted: list[Any]) -> None:
        self.register()
        self.register()
        self.insert([(kind, {}) for kind in KINDS * 2])
        self.insert(wanted)
        self.claim(0, 2, "default", True)

    @rule(wanted=WANTED)
    def insert(self, wanted: list[tuple[str, dict[str, Any]]]) -> None:
        given = [(kind, self.with_numbers(options)) for kind, options in wanted]

        numbers = self.do(lambda side: side.insert(given))

        if isinstance(numbers, list):
            self.alive.update(numbers)

    def with_numbers(self, options: dict[str, Any]) -> dict[str, Any]:
        choices = options.get("depends_on", ()) if self.has_jobs() else ()
        numbers = dict.fromkeys(self.picked(choice) for choice in choices)
        return {**options, "depends_on": tuple(numbers)}

    @precondition(has_jobs)
    @rule(choice=CHOICE)
    def cancel(self, choice: int) -> None:
        number = self.picked(choice)

        answer = self.do(lambda side: side.storage.cancel(side.ids[number]))

        if answer is Change.APPLIED:
            self.off.add(number)
        elif answer is Change.REQUESTED:
            self.to_be_off.setdefault(number, self.rows[number].attempt)

    @precondition(has_jobs)
    @rule(choice=CHOICE)
    def retry(self, choice: int) -> None:
        number = self.picked(choice)

        answer = self.do(lambda side: side.storage.retry(side.ids[number]), on_request=True)

        if answer is Change.APPLIED:
            self.off.discard(number)
            self.to_be_off.pop(number, None)

    @precondition(has_jobs)
    @rule(choice=CHOICE)
    def delete(self, choice: int) -> None:
        number = self.picked(choice)

        answer = self.do(lambda side: side.storage.delete(side.ids[number]), on_request=True)

        if answer is Change.APPLIED:
            self.alive.discard(number)

    @precondition(has_jobs)
    @rule(choice=CHOICE)
    def ready(self, choice: int) -> None:
        number = self.picked(choice)
        self.do(lambda side: side.storage.ready(side.ids[number]))

    # -- supervisors ------------------------------------------------------------------------------

    @precondition(lambda self: len(self.owners) < 6)
    @rule()
    def register(self) -> None:
        self.register_as(uuid.UUID(int=len(self.owners) + 1))

    def register_as(self, owner: uuid.UUID) -> None:
        self.owners.append(owner)
        self.living.add(owner)
        self.beat_at[owner] = self.clock
        self.do(lambda side: side.storage.register_client(status_of(owner), TTL))

    @rule(choice=CHOICE)
    def beat(self, choice: int) -> None:
        owner = self.pick(choice, self.owners)

        def beat(side: Side) -> bool:
            with side.storage.heartbeat(owner) as heartbeat:
                return heartbeat.beat() is not None

        if self.do(beat):
            self.beat_at[owner] = self.clock

    @rule(minutes=st.sampled_from(MINUTES), silent=st.sets(st.integers(0, 5), max_size=3))
    def let_time_pass(self, minutes: int, silent: set[int]) -> None:
        """Those that are not *silent* renew their leases, if only when they are over."""
        by = dt.timedelta(minutes=minutes)
        self.clock += by
        for side in self.sides:
            side.age(by)
        for place in set(range(len(self.owners))) - silent:
            self.beat(place)

    @rule(choice=CHOICE, minutes=st.sampled_from([40, 61]))
    def oversleep(self, choice: int, minutes: int) -> None:
        """One is frozen for a while, and claims before it renews its lease."""
        place = choice % len(self.owners)
        self.let_time_pass(minutes, {place})
        for queue in QUEUES:
            self.claim(place, 1, queue, True)

    @rule(choice=CHOICE, hows=st.lists(st.sampled_from(ENDS), max_size=3))
    def work(self, choice: int, hows: list[str]) -> None:
        """What a supervisor does all day."""
        self.beat(choice)
        for queue in QUEUES:
            self.claim(choice, 2, queue, True)
        for place, how in enumerate(hows[: len(self.claims)]):
            self.finish(place, how, "its own")

    @rule(choice=CHOICE, limit=st.integers(1, 5), queue=st.sampled_from(QUEUES), both=st.booleans())
    def claim(self, choice: int, limit: int, queue: str, both: bool) -> None:
        owner = self.pick(choice, self.owners)
        kinds = KINDS if both else KINDS[:1]
        self.claim_seq += 1
        claimed: list[list[ClaimedJob]] = []

        def claim(side: Side) -> list[dict[str, Any]]:
            jobs = side.storage.get_job_available(
                queue, limit, kinds=kinds, owner=owner, claim_seq=self.claim_seq
            )
            claimed.append(jobs)
            return [side.described_claim(job) for job in jobs]

        for place, described in enumerate(self.do(claim)):
            assert self.clock - self.beat_at[owner] < TTL, "I20: it had no lease"
            jobs = [jobs[place] for jobs in claimed]
            self.claims.append(Claim(owner, described["number"], jobs))

    @precondition(lambda self: self.claims)
    @rule(choice=CHOICE, how=st.sampled_from(ENDS), fence=st.sampled_from(FENCES))
    def finish(self, choice: int, how: str, fence: str) -> None:
        """Acknowledges any claim that there ever was, now and then by a fence that never was."""
        claim: Claim = self.pick(-1 - choice, self.claims)
        owner = self.other_than(claim.owner) if fence == "another owner" else claim.owner
        jobs = [
            structs.replace(job, claim_seq=job.claim_seq + (fence == "another claim"))
            for job in claim.jobs
        ]
        holds = is_held(self.sides[0].images.get(claim.number), owner, jobs[0])
        before = [side.rows.get(claim.number) for side in self.sides]

        def finish(side: Side) -> AckAnswer:
            outcome = outcome_of(jobs[self.sides.index(side)], how, side.at(-1))
            (answer,) = side.storage.update_job_state(owner, [outcome])
            return answer

        answer = self.do(finish)

        assert (answer is AckAnswer.APPLIED) == holds, "I7: the fence decides, nothing else"
        if answer is not AckAnswer.APPLIED:
            after = [side.rows.get(claim.number) for side in self.sides]
            if answer is AckAnswer.COMPLETED:
                before = [without_account(row) for row in before]
                after = [without_account(row) for row in after]
            assert after == before, "I8: a refused outcome changed the row"
        self.repeat = finish

    @precondition(lambda self: self.claims)
    @rule(choice=CHOICE)
    def complete_itself(self, choice: int) -> None:
        """A job completes in a transaction of its own."""
        claim: Claim = self.pick(-1 - choice, self.claims)
        holds = is_held(self.sides[0].images.get(claim.number), claim.owner, claim.jobs[0])

        def complete(side: Side) -> bool:
            return completes_itself(side.storage, claim.owner, claim.jobs[self.sides.index(side)])

        assert self.do(complete) == holds, "I7: the fence decides, nothing else"

    @rule()
    def the_answer_was_lost(self) -> None:
        """The last acknowledgement comes once more."""
        before = [side.rows for side in self.sides]

        answer = self.do(self.repeat)

        assert answer is not AckAnswer.APPLIED, "I7: one outcome was applied twice"
        after = [side.rows for side in self.sides]
        if answer is AckAnswer.COMPLETED:
            # It was refused before, and the job has completed itself meanwhile: that adds its
            # account, to one row that had none.
            assert all(changes(*rows) == 1 for rows in zip(before, after, strict=True))
            before = [{n: without_account(row) for n, row in rows.items()} for rows in before]
            after = [{n: without_account(row) for n, row in rows.items()} for rows in after]
        assert after == before, "I8: a repeated outcome changed a row"

    @precondition(lambda self: self.claims)
    @rule(choices=st.lists(CHOICE, min_size=1, max_size=5, unique=True), how=st.sampled_from(ENDS))
    def finish_many(self, choices: list[int], how: str) -> None:
        """Acknowledges several jobs at once."""
        picked = {
            claim.number: claim for claim in (self.pick(-1 - c, self.claims) for c in choices)
        }
        owner = next(iter(picked.values())).owner
        claims = [claim for claim in picked.values() if claim.owner == owner]

        def finish(side: Side) -> list[AckAnswer]:
            place = self.sides.index(side)
            past = side.at(-1)
            outcomes = [outcome_of(claim.jobs[place], how, past) for claim in claims]
            answers = side.storage.update_job_state(owner, outcomes)
            # Among others, an outcome that was applied now may read as one applied before.
            return [
                AckAnswer.APPLIED if answer is AckAnswer.DUPLICATE else answer for answer in answers
            ]

        self.do(finish)

    @precondition(lambda self: self.claims)
    @rule(choice=CHOICE, mine=st.booleans())
    def note(self, choice: int, mine: bool) -> None:
        claim: Claim = self.pick(-1 - choice, self.claims)
        owner = claim.owner if mine else self.pick(choice, self.owners)

        def note(side: Side) -> int:
            job = claim.jobs[self.sides.index(side)]
            fence = Fence(job.id, job.attempt, job.claim_seq)
            progress = '{"done": 1, "total": 4, "note": ""}'
            return side.storage.save_progress(owner, [JobProgress(fence, progress, f"{choice}")])

        self.do(note)

    @rule(choice=CHOICE)
    def look_at_what_runs(self, choice: int) -> None:
        owner = self.pick(choice, self.owners)

        def running(side: Side) -> list[tuple[int, int, int]]:
            jobs = side.storage.running(owner)
            return [(side.number(job.id), job.attempt, job.claim_seq) for job in jobs]

        def cancels(side: Side) -> set[tuple[int, int, int]]:
            fences = side.storage.cancel_requests(owner)
            return {(side.number(f.id), f.attempt, f.claim_seq) for f in fences}

        assert self.do(cancels) <= set(self.do(running))

    # -- maintenance ------------------------------------------------------------------------------

    @rule()
    def look_at_the_leases(self) -> None:
        """As a supervisor does that is slow to act on what it saw."""
        self.old_leases.append(self.do(leases))

    @rule(choice=CHOICE, old=st.booleans())
    def declare_dead(self, choice: int, old: bool) -> None:
        seen = self.pick(choice, self.old_leases) if old and self.old_leases else self.do(leases)

        dead = self.do(lambda side: sorted(side.storage.declare_dead(seen)))

        for owner in dead:
            assert self.clock - self.beat_at[owner] >= TTL, "I20: it had its lease"
            self.living.discard(owner)

    @rule(limit=st.sampled_from([1, ALL]))
    def rescue(self, limit: int) -> None:
        dead = self.do(lambda side: sorted(side.storage.dead_owners()))
        assert not self.living & set(dead), "I20: it lives"

        def rescue(side: Side) -> list[tuple[int, int, JobState]]:
            rescued = side.storage.rescue(dead, limit)
            return sorted((side.number(r.job_id), r.attempt, r.state) for r in rescued)

        self.do(rescue)

    @rule(choice=CHOICE)
    def lose(self, choice: int) -> None:
        """A supervisor dies, and the others see to its jobs."""
        self.let_time_pass(61, {choice % len(self.owners)})
        self.declare_dead(0, False)
        self.rescue(ALL)

    @rule(choice=CHOICE)
    def stop(self, choice: int) -> None:
        owner = self.pick(choice, self.owners)
        status = status_of(owner, stopped=True)
        self.living.discard(owner)
        self.do(lambda side: side.storage.report_client(status))

    @rule()
    def stage(self) -> None:
        self.do(lambda side: side.storage.stage(ALL))

    @rule(state=st.sampled_from([JobState.COMPLETED, JobState.CANCELLED]), hours=st.integers(0, 2))
    def clean(self, state: JobState, hours: int) -> None:
        retention = dt.timedelta(hours=hours)
        before = self.rows

        self.do(lambda side: side.storage.cleaner(state, retention, limit=ALL), on_request=True)

        gone = self.alive - self.rows.keys()
        assert all(before[number].state is state for number in gone)
        self.alive -= gone

    # -- what is promised -------------------------------------------------------------------------

    @invariant()
    def the_storages_agree(self) -> None:
        for number in self.rows:
            agreed(self.sides, lambda side, number=number: side.described(number))

    @invariant()
    def i1_what_was_inserted_is_there(self) -> None:
        for side in self.sides:
            assert side.rows.keys() == self.alive

    @invariant()
    def i3_to_i12_and_i24_hold_for_every_change(self) -> None:
        for side in self.sides:
            assert side.history.broken == []

    @invariant()
    def i22_a_cancelled_job_does_not_begin_again(self) -> None:
        for number in self.off & self.rows.keys():
            assert self.rows[number].state is JobState.CANCELLED
        for number, attempt in self.to_be_off.items():
            if number in self.rows:
                row = self.rows[number]
                assert row.attempt == attempt
                assert row.state is JobState.RUNNING or row.state.is_final

    @invariant()
    def i24_a_key_is_of_one_job(self) -> None:
        keys = [row.idempotency_key for row in self.rows.values() if row.idempotency_key]
        assert len(keys) == len(set(keys))

    def teardown(self) -> None:
        """I2: from wherever it got, every job ends once supervisors do their work again."""
        if not self.is_sound:
            return
        self.let_time_pass(24 * 60, set(range(6)))
        self.declare_dead(0, False)
        self.rescue(ALL)
        self.register_as(uuid.UUID(int=99))
        for number in sorted(self.alive):
            self.do(lambda side, number=number: side.storage.ready(side.ids[number]))
        for _ in range(len(self.alive) + 1):
            self.run_what_is_due()
        self.i3_to_i12_and_i24_hold_for_every_change()
        for side in self.sides:
            assert {row.state for row in side.rows.values() if not row.state.is_final} == set()

    def run_what_is_due(self) -> None:
        self.stage()
        first = len(self.claims)
        for queue in QUEUES:
            # By the owner that came last.
            self.claim(len(self.owners) - 1, ALL, queue, True)
        for place in range(first, len(self.claims)):
            self.finish(len(self.claims) - 1 - place, "succeeded", "its own")


def leases(side: Side) -> tuple[Lease, ...]:
    return tuple(sorted(side.storage.leases(), key=lambda lease: lease.owner))


def is_held(image: Image | None, owner: uuid.UUID, job: ClaimedJob) -> bool:
    """Whether the claim is the one that the row belongs to."""
    if image is None or image.state is not JobState.RUNNING:
        return False
    fence = (client_id_of(owner), job.attempt, job.claim_seq)
    return (image.owner, image.attempt, image.claim_seq) == fence


def outcome_of(job: ClaimedJob, how: str, past: dt.datetime) -> Outcome:
    """Returns what a supervisor makes of the end of an attempt."""
    error = AttemptError(attempt=job.attempt, error=how, cause=Cause.EXCEPTION).to_json()
    left = Outcome(job.id, job.attempt, job.claim_seq, error=error)
    verdict = Verdict.FAILED
    match how:
        case "succeeded":
            left = structs.replace(left, error=None, duration_us=5, cpu_us=4, pid=7, result="[1]")
            verdict = Verdict.SUCCEEDED
        case "failed":
            left.retry_at = past
        case "failed for long":
            left.checkpoint = '{"page": 1}'
        case "crashed":
            left.crashed, left.retry_at = True, past
        case "cancelled":
            verdict = Verdict.CANCELLED
        case "gave up":
            verdict = Verdict.GAVE_UP
        case "snoozed" | "snoozed for no time":
            times = Job(job, None, "me").snoozes + 1
            delay_s = 3600.0 if how == "snoozed" else 0.0
            left = structs.replace(left, error=None, snoozes=times, retry_in_s=delay_s)
            verdict = Verdict.SNOOZED
        case _:
            left, verdict = None, Verdict.RELEASED
    return judge(job, verdict, left).outcome


def run(make: Callable[[], Sequence[Side]], **changed: Any) -> None:
    chosen = settings(
        settings(max_examples=150, stateful_step_count=40, deadline=None),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        **changed,
    )

    def machine() -> Any:
        return StorageMachine(make())

    run_state_machine_as_test(cast("Any", machine), settings=chosen)


@pytest.fixture
def postgres(server: Server) -> Iterator[Callable[[], KeptInPostgres]]:
    storage = PostgresStorage(server.emptied())
    with psycopg.connect(server.emptied(), autocommit=True) as connection:

        def empty() -> KeptInPostgres:
            server.emptied()
            return KeptInPostgres(storage, connection)

        yield empty
    storage.close()


def test_the_model_keeps_every_promise_in_any_order_of_calls() -> None:
    run(lambda: [Side(KeptInModel())])


def test_postgresql_does_what_the_model_does_and_keeps_every_promise(
    postgres: Callable[[], KeptInPostgres],
) -> None:
    run(lambda: [Side(KeptInModel()), Side(postgres())], max_examples=40)


@pytest.mark.parametrize("broken_storage", broken.STORAGES)
def test_a_storage_that_breaks_a_promise_is_found_out(
    broken_storage: type[ModelStorage],
) -> None:
    with pytest.raises(AssertionError):
        run(
            lambda: [Side(KeptInModel(broken_storage()))],
            max_examples=1_000,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )
