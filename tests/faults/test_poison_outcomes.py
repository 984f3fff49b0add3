"""D14: outcomes that the database refuses, among good ones, on their way to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import psycopg
import pytest

from support.acknowledging import acknowledging
from support.model import ModelStorage
from support.supervising import wait_until
from synk import InvalidJob, JobState, telemetry
from synk.claim import AckAnswer, ClaimedJob, Outcome
from synk.runtime.supervisor import backoff
from synk.storage.base import Storage
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OWNER, claim, get, insert, outcome_of, raised

JOBS = 50
FAR = datetime.max.replace(tzinfo=timezone(-timedelta(hours=5)))

POISON: dict[str, dict[str, Any]] = {
    "nul_in_json": {"result": json.dumps("a\0b")},
    "nul_in_text": {"output": "a\0b"},
    "surrogate_in_json": {"result": json.dumps("a\ud800b")},
    "surrogate_in_text": {"output": "a\ud800b"},
    "surrogate_in_jsons_text": {"result": '"a\ud800b"'},
    "not_a_number": {"result": "NaN"},
    "no_json": {"result": "{"},
    "large_number": {"result": "1e999999"},
    "deep": {"result": "[" * 50_000 + "]" * 50_000},
    "checkpoint": {"checkpoint": "{", "state": JobState.AVAILABLE},
    "progress": {"progress": "\0"},
    "error": {"error": json.dumps({"error": "\0"}), "state": JobState.CANCELLED},
    "retry_at": {"retry_at": FAR, "retry_in_s": 60.0, "state": JobState.SCHEDULED},
}
"""What no database takes."""


def claimed(storage: Storage, count: int = JOBS) -> list[ClaimedJob]:
    for _ in range(count):
        insert(storage)
    return claim(storage, count)


@pytest.mark.parametrize("kind", POISON)
def test_d14_an_outcome_that_the_database_refuses_is_blamed_alone_and_stored_without_its_texts(
    storage: PostgresStorage, kind: str
) -> None:
    jobs = claimed(storage)
    outcomes = [outcome_of(job, result='"good"', output="good") for job in jobs]
    bad = jobs[17]
    outcomes[17] = outcome_of(bad, duration_us=7, **POISON[kind])
    with acknowledging(storage, outcomes) as (acks, facts):
        wait_until(lambda: not acks.unacknowledged, what="all to be stored")

    (reduced,) = facts.of(telemetry.OutcomeReduced)
    assert (reduced.job_id, reduced.attempt) == (bad.id, 1)
    assert set(reduced.left_out) == set(POISON[kind]) - {"state", "retry_in_s"}
    assert facts.of(telemetry.StorageFailing) == []
    row = get(storage, bad.id)
    assert row.state is POISON[kind].get("state", JobState.COMPLETED)
    assert row.duration == timedelta(microseconds=7)
    assert (row.result, row.output, row.progress, row.checkpoint) == (None, "", None, None)
    assert {
        (r.state, r.result, r.output) for r in storage.get([j.id for j in jobs if j != bad])
    } == {(JobState.COMPLETED, "good", "good")}


def test_d14_only_the_value_that_is_refused_is_left_out(storage: PostgresStorage) -> None:
    jobs = claimed(storage, 4)
    outcomes = [
        outcome_of(jobs[0], result="1", output="a\0b", progress='{"done": 1}'),
        outcome_of(jobs[1], result="{", output="good"),
        outcome_of(jobs[2], result="{", output="a\0b", progress='{"done": 3}'),
        outcome_of(jobs[3], state=JobState.CANCELLED, error='{"error": "kept"}', output="\0"),
    ]
    with acknowledging(storage, outcomes) as (acks, facts):
        wait_until(lambda: not acks.unacknowledged, what="all to be stored")

    rows = [get(storage, job.id) for job in jobs]
    assert [(row.result, row.output) for row in rows] == [(1, ""), (None, "good")] + [
        (None, "")
    ] * 2
    assert [row.progress and row.progress.done for row in rows] == [1, None, 3, None]
    assert [error.error for error in rows[3].errors] == ["kept"]
    assert "is stored without output: " in facts.text()


def test_d14_the_record_of_a_refused_attempt_has_a_stand_in(storage: PostgresStorage) -> None:
    (job,) = claimed(storage, 1)
    with acknowledging(
        storage, [outcome_of(job, state=JobState.CANCELLED, error='{"error": "\\u0000"}')]
    ) as (acks, _):
        wait_until(lambda: not acks.unacknowledged, what="it to be stored")

    (error,) = get(storage, job.id).errors
    assert error.attempt == 1
    assert "refused the record of this attempt" in error.error
    assert error.at is not None


class PickyStorage(ModelStorage):
    """Refuses batches that have one of some jobs, and counts how often it is asked."""

    def __init__(self, bad: set[int], *, texts_only: bool = True) -> None:
        super().__init__()
        self.bad = bad
        self._texts_only = texts_only
        self.sizes: list[int] = []

    def update_job_state(self, owner: UUID, outcomes: Sequence[Outcome]) -> list[AckAnswer]:
        self.sizes.append(len(outcomes))
        for outcome in outcomes:
            if outcome.id in self.bad and (outcome.result is not None or not self._texts_only):
                raise InvalidJob("job", outcome.id, "refused")
        return super().update_job_state(owner, outcomes)


def test_d14_the_batch_is_halved_down_to_the_one_to_blame() -> None:
    storage = PickyStorage(set())
    outcomes = [outcome_of(job, result="1") for job in claimed(storage, 256)]
    storage.bad = {outcomes[0].id}
    with acknowledging(storage, outcomes) as (acks, _):
        wait_until(lambda: not acks.unacknowledged, what="all to be stored")

    # Each half in turn, and the one alone without its texts.
    assert storage.sizes == [256, 128, 64, 32, 16, 8, 4, 2, 1, 1, 1, 2, 4, 8, 16, 32, 64, 128]
    results = {row.id: row.result for row in storage.get([outcome.id for outcome in outcomes])}
    assert [job_id for job_id, result in results.items() if result is None] == [outcomes[0].id]


def test_d14_several_in_one_batch_are_all_found(storage: PostgresStorage) -> None:
    jobs = claimed(storage)
    outcomes = [outcome_of(job, result="{" if job.id % 7 == 0 else "1") for job in jobs]
    with acknowledging(storage, outcomes) as (acks, facts):
        wait_until(lambda: not acks.unacknowledged, what="all to be stored")

    bad = [job.id for job in jobs if job.id % 7 == 0]
    assert len(bad) == JOBS // 7
    assert [fact.job_id for fact in facts.of(telemetry.OutcomeReduced)] == bad
    assert storage.counts() == {JobState.COMPLETED: JOBS}


def test_d14_what_is_refused_even_so_is_tried_again_and_holds_nobody_up() -> None:
    storage = PickyStorage(set(), texts_only=False)
    outcomes = [outcome_of(job, result="1") for job in claimed(storage, 20)]
    bad = outcomes[3]
    storage.bad = {bad.id}
    with acknowledging(storage, outcomes) as (acks, facts):
        wait_until(lambda: acks.unacknowledged == 1, what="the others to be stored")
        wait_until(lambda: storage.sizes.count(1) > 6, what="it to be tried again")
        later = [outcome_of(job) for job in claimed(storage, 5)]
        acks.offer(later)
        wait_until(lambda: acks.unacknowledged == 1, what="later ones to be stored")
        storage.bad = set()
        wait_until(lambda: not acks.unacknowledged, what="it to be stored")

    # Nothing of it was left out meanwhile, since that did not help.
    assert facts.of(telemetry.OutcomeReduced) == []
    assert get(storage, bad.id).result == 1


def test_d14_a_lone_surrogate_is_refused_before_it_is_sent(storage: PostgresStorage) -> None:
    (job,) = claimed(storage, 1)

    error = raised(lambda: storage.update_job_state(OWNER, [outcome_of(job, output="\ud800")]))

    assert isinstance(error, InvalidJob)
    assert storage.counts() == {JobState.RUNNING: 1}


def test_d14_a_value_that_a_constraint_of_the_owner_refuses_is_stored_without(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    connection.execute("ALTER TABLE synk.job ADD CONSTRAINT short CHECK (length(output) < 5)")
    try:
        jobs = claimed(storage, 10)
        outcomes = [outcome_of(job, output="x" * number) for number, job in enumerate(jobs)]
        with acknowledging(storage, outcomes) as (acks, _):
            wait_until(lambda: not acks.unacknowledged, what="all to be stored")
    finally:
        connection.execute("ALTER TABLE synk.job DROP CONSTRAINT short")

    outputs = [row.output for row in storage.get([job.id for job in jobs])]
    assert outputs == ["x" * number if number < 5 else "" for number in range(10)]


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'not this one'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON synk.job FOR EACH ROW
    WHEN (NEW.state = 'completed' AND NEW.id = 17) EXECUTE FUNCTION refuse();
"""


def test_d14_one_that_a_trigger_of_the_users_refuses_stands_in_the_way_of_none(
    connection: psycopg.Connection, storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing tells which of them it is, nor that a value is to blame."""
    monkeypatch.setattr(backoff, "PAUSE_MAX_S", 0.02)
    outcomes = [outcome_of(job, result="1") for job in claimed(storage)]
    connection.execute(REFUSE)
    try:
        with acknowledging(storage, outcomes) as (acks, facts):
            wait_until(lambda: acks.unacknowledged == 1, what="the others to be stored")
            running = [row.id for row in storage.jobs(state=JobState.RUNNING)]
            connection.execute("DROP TRIGGER refuse ON synk.job")
            wait_until(lambda: not acks.unacknowledged, what="it to be stored")
    finally:
        connection.execute("DROP FUNCTION refuse CASCADE")

    assert running == [17]
    assert all(row.result == 1 for row in storage.get(list(range(1, 101))))
    assert facts.of(telemetry.OutcomeReduced) == []
