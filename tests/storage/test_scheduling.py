"""Schedules in the storage: what is swapped, by whom, and what their table sees to."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final, Protocol

import psycopg
import pytest

import synk
from support.model import ModelStorage
from synk.periodic import Definition, Schedule
from synk.row import Change, JobState
from synk.storage import migrate
from synk.storage.base import Storage
from synk.storage.postgres import PostgresStorage
from synk.storage.scheduling import Scheduling, Taken, TickSwap
from synk.testing.making import status_of
from synk.tick_key import key_of

HOUR: Final = dt.timedelta(hours=1)
OWNER: Final = uuid.uuid4()
NIGHTLY: Final = Definition(
    name="nightly", cron="30 2 * * *", every=None, tz="Europe/Berlin", kind="report",
    args='{"of": "all"}', queue="reports", priority=2, max_attempts=3, tags=("a", "b"),
    meta='{"by": "me"}', start_within=2 * HOUR, keep=3 * HOUR,
    missed="one", max_late=6 * HOUR, jitter=dt.timedelta(0), overlap="skip",
)  # fmt: skip


class Both(Storage, Scheduling, Protocol):
    """A storage that keeps schedules too."""


def changed(**said: Any) -> Definition:
    return dataclasses.replace(NIGHTLY, **said)


def declared(storage: Scheduling, definition: Definition = NIGHTLY) -> Schedule:
    storage.declare_schedule(definition)
    return of(storage, definition.name)


def of(storage: Scheduling, name: str = "nightly") -> Schedule:
    return next(each for each in storage.schedules() if each.name == name)


def swap_of(schedule: Schedule, *ticks: dt.datetime, **said: Any) -> TickSwap:
    """The ticks become jobs at once, and the next one is an hour later."""
    last = ticks[-1] if ticks else schedule.next_at or schedule.since
    given: dict[str, Any] = {
        "name": schedule.name, "version": schedule.version, "was": schedule.next_at,
        "next_at": last + HOUR, "ticks": ticks, "delays": [dt.timedelta(0)] * len(ticks),
    }  # fmt: skip
    return TickSwap(**given | said)


@pytest.fixture
def both(any_storage: Any) -> Both:
    return any_storage


# -- what both storages do ------------------------------------------------------------------------


def test_a_definition_comes_back_as_it_was_declared(both: Both) -> None:
    for definition in (NIGHTLY, changed(name="b", cron=None, every=HOUR, max_late=None, tags=())):
        found = declared(both, definition)

        said = {each.name: getattr(found, each.name) for each in dataclasses.fields(Definition)}
        assert Definition(**said | {"args": definition.args, "meta": definition.meta}) == definition
        assert (found.next_at, found.last_at, found.runs, found.skipped) == (None, None, 0, 0)


def test_the_same_declared_again_changes_nothing(both: Both) -> None:
    assert both.declare_schedule(NIGHTLY) is True
    first = of(both)
    both.take_ticks(swap_of(first))
    moved = of(both)

    assert both.declare_schedule(NIGHTLY) is None
    assert of(both) == moved


def test_another_expression_counts_from_now_and_the_last_to_declare_wins(both: Both) -> None:
    both.take_ticks(swap_of(declared(both)))
    before = of(both)

    assert both.declare_schedule(changed(cron="@hourly")) is False

    after = of(both)
    assert (before.next_at is None, after.next_at) == (False, None)
    assert (after.cron, after.since >= before.since) == ("@hourly", True)
    assert after.version > before.version


def test_other_arguments_leave_the_next_tick_as_it_is(both: Both) -> None:
    both.take_ticks(swap_of(declared(both)))
    before = of(both)

    both.declare_schedule(changed(args='{"of": "some"}', queue="slow"))

    after = of(both)
    assert (after.next_at, after.since) == (before.next_at, before.since)
    assert (after.args, after.queue) == ('{"of": "some"}', "slow")
    assert after.version > before.version, "who computed with the former arguments must not swap"


def test_what_has_no_next_tick_yet_is_due_and_then_its_tick_is_waited_for(both: Both) -> None:
    empty = both.due_schedules(10)
    schedule = declared(both)
    new = both.due_schedules(10)
    both.take_ticks(swap_of(schedule, next_at=new.now + HOUR))
    waiting = both.due_schedules(10)

    assert (empty.schedules, empty.wake_at) == ([], None)
    assert [each.name for each in new.schedules] == ["nightly"]
    assert (waiting.schedules, waiting.wake_at) == ([], new.now + HOUR)


def test_a_tick_becomes_a_job_with_all_that_the_schedule_says(both: Both) -> None:
    schedule = declared(both)
    tick = schedule.since

    taken = both.take_ticks(swap_of(schedule, tick))

    assert taken is not None
    (job_id,) = taken.job_ids
    job = both.get([job_id])[0]
    assert (job.name, job.kind, job.queue, job.priority) == ("nightly", "report", "reports", 2)
    assert (job.args, job.max_attempts, job.tags) == ({"of": "all"}, 3, ["a", "b"])
    assert (job.keep, job.start_before) == (3 * HOUR, job.scheduled_at + 2 * HOUR)
    assert (job.meta, job.idempotency_key) == ({"by": "me"}, key_of("nightly", tick))
    assert (job.state, job.scheduled_at >= tick) == (JobState.AVAILABLE, True)
    after = of(both)
    assert (after.next_at, after.last_at, after.last_job_id) == (tick + HOUR, tick, job_id)
    assert (after.runs, after.skipped) == (1, 0)


def test_a_job_that_comes_later_than_its_tick_is_scheduled(both: Both) -> None:
    schedule = declared(both)

    taken = both.take_ticks(swap_of(schedule, schedule.since, delays=[HOUR]))

    assert taken is not None
    job = both.get(taken.job_ids)[0]
    assert (job.state, job.scheduled_at) == (JobState.SCHEDULED, schedule.since + HOUR)


def test_only_the_first_of_two_swaps_from_one_look_counts(both: Both) -> None:
    schedule = declared(both)
    swap = swap_of(schedule, schedule.since)

    assert both.take_ticks(swap) is not None
    assert both.take_ticks(swap) is None
    assert of(both).runs == 1


def test_a_swap_of_what_was_paused_changed_or_removed_meanwhile_does_nothing(both: Both) -> None:
    """A pause that races a tick wins or loses, never both."""
    meanwhile: list[Callable[[], object]] = [
        lambda: both.pause_schedule("nightly"),
        lambda: both.declare_schedule(changed(args="{}")),
        lambda: both.remove_schedule("nightly"),
    ]
    for change in meanwhile:
        schedule = declared(both)
        change()

        assert both.take_ticks(swap_of(schedule, schedule.since)) is None
        both.remove_schedule("nightly")


def test_what_was_removed_and_made_anew_is_another_schedule(both: Both) -> None:
    schedule = declared(both)
    both.remove_schedule("nightly")
    declared(both, changed(cron="@hourly"))

    assert both.take_ticks(swap_of(schedule, schedule.since)) is None


def test_a_pause_holds_until_it_is_resumed_from_when_on_ticks_count(both: Both) -> None:
    both.take_ticks(swap_of(declared(both)))

    answers = [both.pause_schedule("nightly"), both.pause_schedule("nightly")]
    paused = of(both)
    look = both.due_schedules(10)
    answers += [both.resume_schedule("nightly"), both.resume_schedule("nightly")]
    resumed = of(both)

    assert answers == [Change.APPLIED, Change.REFUSED] * 2
    assert (paused.paused_at is None, look.schedules, look.wake_at) == (False, [], None)
    assert (resumed.paused_at, resumed.next_at) == (None, None)
    assert resumed.since >= paused.since


def test_a_definition_that_changes_stays_paused(both: Both) -> None:
    declared(both)
    both.pause_schedule("nightly")

    assert declared(both, changed(cron="@hourly")).paused_at is not None


def test_what_is_not_there_is_gone(both: Both) -> None:
    assert both.pause_schedule("x") is Change.GONE
    assert both.resume_schedule("x") is Change.GONE
    assert both.remove_schedule("x") is Change.GONE
    assert both.run_schedule("x") is None


def test_while_a_job_is_not_over_ticks_are_skipped_and_counted(both: Both) -> None:
    first = both.take_ticks(swap_of(declared(both), of(both).since))
    assert first is not None
    (job_id,) = first.job_ids
    second = both.take_ticks(swap_of(of(both), of(both).since + HOUR))
    both.cancel(job_id)
    third = both.take_ticks(swap_of(of(both), of(both).since + 2 * HOUR))

    assert second == Taken([], job_id)
    assert third is not None
    assert (len(third.job_ids), third.busy_with) == (1, None)
    assert (of(both).runs, of(both).skipped) == (2, 1)


def test_a_job_that_is_gone_is_over(both: Both) -> None:
    first = both.take_ticks(swap_of(declared(both), of(both).since))
    assert first is not None
    both.delete(first.job_ids[0])

    second = both.take_ticks(swap_of(of(both), of(both).since + HOUR))

    assert second is not None
    assert len(second.job_ids) == 1


def test_where_jobs_may_overlap_several_ticks_become_jobs_in_order(both: Both) -> None:
    schedule = declared(both, changed(overlap="allow", missed="all"))
    ticks = [schedule.since + n * HOUR for n in range(-3, 0)]

    taken = both.take_ticks(swap_of(schedule, *ticks, skipped=5))

    assert taken is not None
    jobs = both.get(taken.job_ids)
    assert [job.idempotency_key for job in jobs] == [key_of("nightly", tick) for tick in ticks]
    assert (of(both).runs, of(both).skipped, of(both).last_at) == (3, 5, ticks[-1])


def test_a_job_that_has_the_key_of_a_tick_is_that_tick_s_job(both: Both) -> None:
    """Of whatever kind: it must not stop the ticks after it."""
    schedule = declared(both)
    both.insert([_with_key(key_of("nightly", schedule.since))])

    taken = both.take_ticks(swap_of(schedule, schedule.since))

    assert taken == Taken([], None)
    assert of(both).next_at == schedule.since + HOUR


def _with_key(key: str) -> Any:
    from synk.insertion import JobOptions, NewJob

    options = JobOptions(idempotency_key=key)
    return NewJob(name="other", kind="other", args="{}", options=options)


def test_a_job_can_be_had_now_and_is_the_one_that_later_ticks_wait_for(both: Both) -> None:
    declared(both)
    both.pause_schedule("nightly")

    ids = [both.run_schedule("nightly"), both.run_schedule("nightly")]
    both.resume_schedule("nightly")
    taken = both.take_ticks(swap_of(of(both), of(both).since))

    jobs = both.get([each for each in ids if each is not None])
    assert [job.kind for job in jobs] == ["report", "report"]
    assert len({job.idempotency_key for job in jobs}) == 2
    assert taken == Taken([], ids[1])


def test_what_no_supervisor_that_runs_declares_any_more_is_undeclared(both: Both) -> None:
    old, new = uuid.uuid4(), uuid.uuid4()
    both.register_client(status_of(old), HOUR)
    declared(both)
    by_hand = declared(both, changed(name="by hand"))
    both.note_declared(old, ["nightly"])
    seen = [of(both).undeclared]
    both.register_client(status_of(new), HOUR)
    both.report_client(dataclasses.replace(status_of(old), stopped=True))
    seen.append(of(both).undeclared)
    both.note_declared(new, ["nightly"])
    both.note_declared(new, ["nightly"])
    seen.append(of(both).undeclared)
    both.report_client(dataclasses.replace(status_of(new), stopped=True))
    seen.append(of(both).undeclared)

    assert seen == [False, True, False, False], "where nobody runs, nothing is said"
    assert by_hand.undeclared is False


# -- what the table sees to -----------------------------------------------------------------------


def revision(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT number FROM synk.revision").fetchone()
    assert row is not None
    return row[0]


def test_supervisors_hear_of_changes_and_not_of_ticks(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    heard: list[bool] = []
    for change in (
        lambda: storage.declare_schedule(NIGHTLY),
        lambda: storage.declare_schedule(changed(args="{}")),
        lambda: storage.declare_schedule(changed(args="{}")),
        lambda: storage.pause_schedule("nightly"),
        lambda: storage.resume_schedule("nightly"),
        lambda: storage.take_ticks(swap_of(of(storage), of(storage).since)),
        lambda: storage.note_declared(OWNER, ["nightly"]),
        lambda: storage.run_schedule("nightly"),
    ):
        before = revision(connection)
        change()
        heard.append(revision(connection) > before)

    assert heard == [True, True, False, True, True, False, False, False]


def test_what_psql_writes_is_a_schedule_too(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    connection.execute(
        "INSERT INTO synk.periodic (name, cron, kind, next_at, version)"
        " VALUES ('a', '@daily', 'report', now() + interval '1 year', 17)"
    )
    made = of(storage, "a")
    storage.take_ticks(swap_of(made, made.since))
    connection.execute("UPDATE synk.periodic SET cron = '@hourly'")
    moved = of(storage, "a")

    assert (made.next_at, made.version) == (None, 1)
    assert (moved.next_at, moved.version, moved.undeclared) == (None, 2, False)


@pytest.mark.parametrize(
    "values",
    [
        "('', '@daily', NULL, 'k')",
        "(repeat('x', 128), '@daily', NULL, 'k')",
        "('a', '@daily', NULL, '')",
        "('a', NULL, NULL, 'k')",
        "('a', '@daily', '1 hour', 'k')",
        "('a', NULL, '999 ms', 'k')",
        "('a', NULL, '-1 hour', 'k')",
        "('a', NULL, '4000 days', 'k')",
    ],
)
def test_a_schedule_that_could_not_tick_is_refused(
    connection: psycopg.Connection, values: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="periodic_has"):
        connection.execute(
            f"INSERT INTO synk.periodic (name, cron, every, kind) VALUES {values}".encode()
        )


@pytest.mark.parametrize(
    "change",
    [
        "missed = 'some'", "overlap = 'never'", "missed = 'all'", "max_late = '0'",
        "jitter = '2 days'", "priority = 5", "max_attempts = 0", "tags = '{NULL}'", "meta = '[]'",
        "next_at = 'infinity'", "paused_at = '-infinity'", "queue = ''",
        "keep = '0'", "start_within = '0'",
        "args = to_jsonb(repeat('x', 9000000))",
    ],
)  # fmt: skip
def test_a_row_that_no_job_could_be_made_of_or_nobody_could_read_is_refused(
    connection: psycopg.Connection, storage: PostgresStorage, change: str
) -> None:
    storage.declare_schedule(NIGHTLY)

    with pytest.raises(psycopg.errors.CheckViolation, match="periodic_has"):
        connection.execute(f"UPDATE synk.periodic SET {change}".encode())


# -- races ----------------------------------------------------------------------------------------


@pytest.fixture
def storages(dsn: str) -> Iterator[list[PostgresStorage]]:
    with ExitStack() as opened:
        found = [PostgresStorage(dsn) for _ in range(8)]
        for each in found:
            opened.callback(each.close)
        yield found


def test_each_tick_is_one_job_whoever_races_for_it(storages: list[PostgresStorage]) -> None:
    """Of oban-py issues 32 (three inserts a tick) and 17 (a daily run missed, or twice)."""
    storage = storages[0]
    definition = changed(overlap="allow", cron=None, every=dt.timedelta(seconds=1))
    first = declared(storage, definition).since
    rounds = 40
    taken: list[int] = []

    def race(own: PostgresStorage) -> None:
        while (schedule := of(own)).runs < rounds:
            tick = schedule.first_tick()
            swap = swap_of(schedule, tick, next_at=tick + dt.timedelta(seconds=1))
            if (done := own.take_ticks(swap)) is not None:
                taken.extend(done.job_ids)

    threads = [threading.Thread(target=race, args=(each,)) for each in storages]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    jobs = storage.get(taken)
    keys = [key_of("nightly", first + n * dt.timedelta(seconds=1)) for n in range(1, rounds + 1)]
    assert sorted(job.idempotency_key or "" for job in jobs) == sorted(keys)
    assert of(storage).runs == rounds


def test_a_swap_waits_for_nobody(
    storage: PostgresStorage, connection: psycopg.Connection, dsn: str
) -> None:
    """Of river pull request 1251: a connection that stalls with a row must not stop all ticks."""
    schedule = declared(storage)
    other = declared(storage, changed(name="other"))
    with psycopg.connect(dsn) as stalled:
        stalled.execute("SELECT FROM synk.periodic WHERE name = 'nightly' FOR UPDATE")

        assert storage.take_ticks(swap_of(schedule, schedule.since)) is None
        assert storage.take_ticks(swap_of(other, other.since)) is not None

    assert storage.take_ticks(swap_of(schedule, schedule.since)) is not None


def test_a_pause_that_races_a_tick_wins_or_loses(dsn: str, storage: PostgresStorage) -> None:
    """It is committed only once the tick is; and then no tick is taken."""
    schedule = declared(storage, changed(overlap="allow"))
    outcomes: set[bool] = set()
    for _ in range(30):
        gate = threading.Barrier(2)
        answers: list[Taken | None] = []

        def take(gate: threading.Barrier = gate, answers: list[Taken | None] = answers) -> None:
            gate.wait()
            answers.append(storage.take_ticks(swap_of(of(storage), of(storage).first_tick())))

        thread = threading.Thread(target=take)
        thread.start()
        gate.wait()
        storage.pause_schedule("nightly")
        runs = of(storage).runs
        thread.join()
        assert of(storage).runs == runs, "a tick was taken after the pause was committed"
        outcomes.add(answers[0] is not None)
        assert storage.take_ticks(swap_of(of(storage), schedule.since)) is None
        storage.resume_schedule("nightly")

    assert of(storage).runs <= 30


def test_two_versions_that_start_at_once_leave_one_definition(
    storages: list[PostgresStorage],
) -> None:
    one, other = changed(cron="1 * * * *"), changed(cron="2 * * * *")
    gate = threading.Barrier(8)

    def start(own: PostgresStorage, definition: Definition) -> None:
        gate.wait()
        own.declare_schedule(definition)

    threads = [
        threading.Thread(target=start, args=(each, (one, other)[n % 2]))
        for n, each in enumerate(storages)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    found = of(storages[0])
    assert found.cron in ("1 * * * *", "2 * * * *")
    assert found.next_at is None


def test_a_schema_of_before_says_what_it_lacks(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        migrate.apply(connection, up_to=8, with_roles=False)
    storage = PostgresStorage(empty_dsn)
    try:
        with pytest.raises(synk.SchemaMismatch, match="synk migrate"):
            storage.schedules()
    finally:
        storage.close()


def test_schedules_are_swapped_on_an_old_server_too(server15_dsn: str) -> None:
    storage = PostgresStorage(server15_dsn)
    storage.migrate(roles=False)
    try:
        schedule = declared(storage)
        taken = storage.take_ticks(swap_of(schedule, schedule.since))
        assert taken is not None
        assert len(taken.job_ids) == 1
        busy = storage.take_ticks(swap_of(of(storage), schedule.since + HOUR))
        assert busy == Taken([], taken.job_ids[0])
        assert storage.run_schedule("nightly") is not None
        assert storage.due_schedules(1).schedules == []
        assert storage.pause_schedule("nightly") is Change.APPLIED
        assert storage.remove_schedule("nightly") is Change.APPLIED
    finally:
        storage.close()


def test_the_model_and_postgres_are_both_asked() -> None:
    assert isinstance(ModelStorage(), Scheduling)
    assert isinstance(PostgresStorage("postgresql://nowhere"), Scheduling)
