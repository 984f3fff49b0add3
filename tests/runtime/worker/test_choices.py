"""What a handler decides about its job: to snooze, to be tried at a time, to be cancelled."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import synk
from support.commands import run
from support.facts import Facts
from support.jobs import choosing, handlers
from support.jobs.choosing import Asked, Choose, Hurried, in_two_days
from support.supervising import (
    SupervisorProcess,
    ended,
    is_running,
    supervised,
    wait_until,
)
from synk import CancelReason, Cause, Change, JobState, telemetry

SHORT_LEASE = timedelta(seconds=6)
OPTIONS = """{
    'lease_ttl': __import__('datetime').timedelta(seconds=6), 'processes': 1,
    'workers': __import__('support.jobs.choosing', fromlist=['WORKERS']).WORKERS,
}"""
A_MILLISECOND = timedelta(milliseconds=1)
AN_HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def client(shared_dsn: str) -> Iterator[synk.Client]:
    queues = {"default": synk.QueueConfig(time_fetch=A_MILLISECOND)}
    workers = [*choosing.WORKERS, *handlers.WORKERS]
    with supervised(shared_dsn, queues=queues, workers=workers) as client:
        yield client


@pytest.fixture
def facts(client: synk.Client) -> Facts:
    return Facts(client)


def inserted(
    client: synk.Client, *steps: str, path: Path | str = "", text: str = "", max_retries: int = 6
) -> int:
    args = Choose(list(steps), str(path), text)
    return client.insert("x", args, synk.InsertOptions(max_retries=max_retries))


def row_of(client: synk.Client, job_id: int) -> synk.JobRow:
    row = client.get(job_id)
    assert row is not None
    return row


def at_rest(client: synk.Client, job_id: int) -> synk.JobRow:
    """Waits until an attempt of the job has ended, and it has not begun again."""
    at_rest = (JobState.SCHEDULED, JobState.COMPLETED, JobState.CANCELLED)

    def row() -> synk.JobRow | None:
        found = row_of(client, job_id)
        return found if found.attempt and found.state in at_rest else None

    return wait_until(row, what=f"the end of an attempt of job {job_id}")


def of_job(facts: Facts, kind: type[telemetry.Fact], job_id: int) -> list[telemetry.Fact]:
    return [fact for fact in facts.of(kind) if fact.fields["job_id"] == job_id]


# -- Snooze ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        *("a moment", "raise: a moment", "no time", "raise: no time", "awaited"),
        *("swallowing", "returning what was swallowed"),
    ],
)
def test_a_job_that_snoozes_runs_again_uncharged_raised_or_returned(
    client: synk.Client, facts: Facts, step: str
) -> None:
    job_id = inserted(client, step, step, "ok")

    row = ended(client, job_id)

    assert (row.state, row.result) == (JobState.COMPLETED, [3, 2, None])
    assert (row.attempt, row.uncounted, row.max_attempts, row.errors) == (3, 2, 7, [])
    assert (row.snoozes, row.meta) == (2, {"snoozes": 2})
    assert len(of_job(facts, telemetry.AttemptSnoozed, job_id)) == 2
    assert of_job(facts, telemetry.AttemptFailed, job_id) == []


def test_a_job_without_a_try_left_may_snooze(client: synk.Client) -> None:
    row = ended(client, inserted(client, "a moment", "no time", "ok", max_retries=0))

    assert (row.state, row.attempt) == (JobState.COMPLETED, 3)


def test_a_thousand_snoozes_change_neither_the_back_off_nor_the_tries_nor_the_rows_size(
    client: synk.Client, facts: Facts
) -> None:
    job_id = inserted(client, *["no time"] * 1000, "fail")

    row = wait_until(lambda: (row := at_rest(client, job_id)).errors and row, seconds=120)

    (error,) = row.errors
    assert error.at is not None
    assert 3.6 <= (row.scheduled_at - error.at).total_seconds() <= 4.4
    assert (row.attempt, row.uncounted, row.max_attempts) == (1001, 1000, 7)
    assert (error.attempt, row.snoozes, len(row.attempted_by)) == (1001, 1000, 100)
    told = of_job(facts, telemetry.AttemptSnoozed, job_id)
    warned = [fact.fields["snoozes"] for fact in told if fact.severity > fact.level]
    assert (len(told), warned) == (1000, [100, 1000])


def test_a_failure_stays_charged_however_often_a_job_snoozes_after_it(client: synk.Client) -> None:
    steps = ("at once", "a moment", "a moment", "fail")

    row = ended(client, inserted(client, *steps, max_retries=1))

    assert (row.cancel_reason, row.attempt, row.uncounted) == (CancelReason.FAILED, 4, 2)
    assert [error.attempt for error in row.errors] == [1, 4]


def test_what_a_job_noted_and_wrote_before_it_snoozed_is_kept(client: synk.Client) -> None:
    job_id = inserted(client, "noting", "ok")

    row = at_rest(client, job_id)
    client.retry(job_id)
    last = ended(client, job_id)

    assert (row.checkpoint, row.output) == ({"page": 3}, "written before\n")
    assert row.progress is not None
    assert (row.progress.done, row.duration is not None) == (1, True)
    assert last.result == [2, 1, {"page": 3}]


def test_a_job_that_was_cancelled_meanwhile_does_not_snooze(
    client: synk.Client, facts: Facts, tmp_path: Path
) -> None:
    job_id = inserted(client, "when told", path=tmp_path / "gate")
    wait_until(lambda: is_running(client, job_id))

    assert client.cancel(job_id) is Change.REQUESTED

    row = ended(client, job_id)
    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)
    assert [error.cause for error in row.errors] == [Cause.CANCELLED]
    assert of_job(facts, telemetry.AttemptSnoozed, job_id) == []


def test_a_job_whose_time_is_nearly_over_may_snooze(client: synk.Client, tmp_path: Path) -> None:
    job_id = client.insert("x", Hurried(str(tmp_path / "gate")))

    row = at_rest(client, job_id)

    assert (row.state, row.snoozes, row.errors) == (JobState.SCHEDULED, 1, [])


def test_a_job_that_completed_itself_does_not_snooze_any_more(
    client: synk.Client, shared_dsn: str
) -> None:
    row = ended(client, inserted(client, "after its own end", text=shared_dsn))

    assert (row.state, row.result, row.attempt) == (JobState.COMPLETED, "by itself", 1)
    assert wait_until(lambda: row_of(client, row.id).duration)


def test_a_job_that_snoozes_while_its_supervisor_stops_is_one_that_snoozed(
    dsn: str, tmp_path: Path
) -> None:
    with supervised(dsn, workers=choosing.WORKERS) as client:
        job_id = inserted(client, "when told", path=tmp_path / "gate")
        wait_until(lambda: is_running(client, job_id))
        facts = Facts(client)
        stopping = threading.Thread(target=client.shutdown)
        stopping.start()
        facts.wait_for(telemetry.SupervisorDraining)
        (tmp_path / "gate").touch()
        row = at_rest(client, job_id)
        stopping.join()

        assert (row.attempt, row.uncounted, row.snoozes) == (1, 1, 1)
        assert (row.state, row.errors) == (JobState.SCHEDULED, [])


def test_a_job_that_snoozes_when_another_supervisor_has_it_does_not_snooze(
    dsn: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with synk.Client(storage=synk.PostgresStorage(dsn)) as client:
        with SupervisorProcess(dsn, OPTIONS) as frozen:
            job_id = inserted(client, "when told", "ok", path=gate)
            wait_until(lambda: is_running(client, job_id))
            frozen.signal(signal.SIGSTOP)
            gate.touch()
            with supervised(dsn, lease_ttl=SHORT_LEASE, workers=choosing.WORKERS):
                row = ended(client, job_id)
            frozen.signal(signal.SIGCONT)
            # It serves again, and has said by then what it had to say.
            ended(client, inserted(client, "ok"))
            frozen.signal(signal.SIGTERM)
            code, _, err = frozen.wait()

        assert code == 0, err
        assert (row.state, row.result, row.lost) == (JobState.COMPLETED, [2, 0, None], 1)
        assert client.get(job_id) == row


# -- RetryAt --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["in two days", "raise: in two days", "chained"])
def test_an_attempt_that_names_the_time_of_the_next_has_failed(
    client: synk.Client, step: str
) -> None:
    row = at_rest(client, inserted(client, step))

    (error,) = row.errors
    assert (row.state, row.attempt, row.uncounted, row.snoozes) == (JobState.SCHEDULED, 1, 0, 0)
    assert row.scheduled_at == in_two_days(row.attempted_at)
    assert (error.cause, error.type) == (Cause.EXCEPTION, "synk.choices.RetryAt")
    assert row.scheduled_at.isoformat(sep=" ") in error.error
    assert ("the other side is down" in error.trace) == (step == "chained")


def test_a_job_that_names_a_time_with_no_try_left_has_failed(client: synk.Client) -> None:
    row = ended(client, inserted(client, "at once", "in two days", max_retries=1))

    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.FAILED)
    assert [error.attempt for error in row.errors] == [1, 2]


# -- Cancel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["cancel", "raise: cancel"])
def test_a_job_that_its_handler_cancels_says_why_and_takes_along_what_depends_on_it(
    client: synk.Client, facts: Facts, step: str
) -> None:
    job_id = inserted(client, "an hour", step, text="no such customer")
    at_rest(client, job_id)
    child = client.insert("x", handlers.Noop(), synk.InsertOptions(depends_on=(job_id,)))

    client.retry(job_id)

    row, (told,) = ended(client, job_id), of_job(facts, telemetry.AttemptGaveUp, job_id)
    (error,) = row.errors
    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.HANDLER)
    assert (error.error, error.cause) == ("synk.choices.Cancel: no such customer", Cause.CANCELLED)
    assert ended(client, child).cancel_reason is CancelReason.DEPENDENCY
    assert str(told).endswith("was cancelled by its handler: synk.choices.Cancel: no such customer")
    assert told.severity == telemetry.SupervisorStarted.level
    assert of_job(facts, telemetry.AttemptFailed, job_id) == []


def test_a_job_that_was_cancelled_meanwhile_is_so_by_request_whatever_its_handler_says(
    client: synk.Client, tmp_path: Path
) -> None:
    job_id = inserted(client, "cancel when told", path=tmp_path / "gate")
    wait_until(lambda: is_running(client, job_id))

    client.cancel(job_id)

    row = ended(client, job_id)
    assert row.cancel_reason is CancelReason.REQUESTED
    assert [error.error for error in row.errors] == ["synk.choices.Cancel: as I was told"]


def test_who_looks_at_them_sees_what_their_handlers_chose(dsn: str) -> None:
    with supervised(dsn, workers=choosing.WORKERS) as client:
        snoozed = inserted(client, "no time", "an hour")
        given_up = inserted(client, "cancel", text="no such customer")
        wait_until(lambda: row_of(client, snoozed).snoozes == 2)
        ended(client, given_up)

    listed = run("jobs", dsn=dsn).stdout
    told = run("job", str(snoozed), dsn=dsn).stdout
    records = json.loads(run("jobs", "--json", dsn=dsn).stdout)
    (kind,) = json.loads(run("stats", "--json", dsn=dsn).stdout)["kinds"]

    assert "scheduled (snoozed 2x)" in listed
    assert "cancelled (handler)" in listed
    assert "0 of 7, and 2 not charged; it snoozed 2 times" in told
    assert "synk.choices.Cancel: no such customer" in run("job", str(given_up), dsn=dsn).stdout
    assert {record["id"]: record["snoozes"] for record in records} == {snoozed: 2, given_up: 0}
    assert (kind["cancelled"], kind["failed"], kind["unfinished"]) == (1, 0, 1)


# -- what cannot be meant -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("negative", "delay=datetime.timedelta(days=-1, seconds=86399): must be from zero to"),
        ("absurd", "delay=datetime.timedelta(days=4000): must be from zero to 10 years"),
        ("no timedelta", "delay=5: must be a timedelta"),
        ("naive", "when=datetime.datetime(2030, 1, 1, 0, 0): is naive; give it a timezone"),
        ("no datetime", "when='tomorrow': must be a datetime"),
        ("far", "must be at most 10 years from now"),
        ("unmade", "has no attribute 'delay'"),
        ("class", "<class 'synk.choices.Snooze'> was returned, the class: call it"),
    ],
)
def test_a_choice_that_cannot_be_meant_is_a_failed_attempt_that_says_what_is_wrong(
    client: synk.Client, step: str, said: str
) -> None:
    row = at_rest(client, inserted(client, step))

    (error,) = row.errors
    assert said in error.error
    assert (row.state, row.attempt, row.uncounted) == (JobState.SCHEDULED, 1, 0)


# -- next_retry -----------------------------------------------------------------------------------


def test_who_is_asked_for_the_next_try_sees_the_error(client: synk.Client) -> None:
    rows = {
        how: at_rest(client, client.insert("x", Asked(how))) for how in ("value", "key", "exit")
    }

    outputs = {how: row.errors[0].output for how, row in rows.items()}
    assert outputs == {
        "value": "asked for ValueError: of its own\n",
        "key": "asked for KeyError: 'of its own'\n",
        "exit": "asked for SystemExit: of its own\n",
    }
    assert rows["value"].scheduled_at == in_two_days(rows["value"].attempted_at)
    for how in ("key", "exit"):
        at = rows[how].errors[0].at
        assert at is not None
        assert rows[how].scheduled_at - at < timedelta(seconds=5)
