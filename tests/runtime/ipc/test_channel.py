"""What lies between a supervisor and a worker: closed, garbled, full, stopped in the middle."""

from __future__ import annotations

import logging
import os
import signal
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest

import synk
from support.acting import (
    acting,
    begun,
    both_workers_of,
    error_of,
    insert,
    is_gone,
    run,
    stopped,
)
from support.facts import Facts
from support.jobs import faults
from support.supervising import SupervisorProcess, ended, is_running, make_client, wait_until
from synk import CancelReason, Cause, JobState, telemetry
from synk.core import lateness

OPTIONS = "{'workers': __import__('support.jobs.actors', fromlist=['x']).WORKERS}"


@pytest.mark.parametrize("number", [256, 4096])
def test_w8_a_job_that_closes_all_descriptors_costs_only_its_own_process(
    client: synk.Client, number: int
) -> None:
    row = run(client, "close_all_fds", number=number)

    if row.state is JobState.CANCELLED:
        error = error_of(row)
        assert (error.cause, error.exit_code) == (Cause.EXIT, 71)
        assert "it closed the descriptors of its worker process" in error.error
    else:
        assert number == 256
    assert run(client, "nothing").state is JobState.COMPLETED


@pytest.mark.parametrize("do", ["close_all_fds_and_wait", "execv_sleep"])
def test_w8_a_lost_channel_keeps_no_supervisor_busy(dsn: str, tmp_path: Path, do: str) -> None:
    log = tmp_path / "log"
    client = make_client(dsn)
    with SupervisorProcess(dsn, OPTIONS) as supervisor:
        row = run(client, "nothing")
        process = psutil.Process(supervisor.process.pid)
        before = process.cpu_times()

        row = run(client, do, log=log, path=tmp_path / "never", number=4096, timeout_s=1.5)

        after = process.cpu_times()
    client.close()
    used_s = after.user + after.system - before.user - before.system
    # A loop that spins would have used all of them.
    assert used_s < 0.6
    assert error_of(row).cause is Cause.TIMEOUT
    assert is_gone(begun(log, do))


@pytest.mark.parametrize("text", ["A", "Agarbage", "Ogarbage", "O\x01", "A\x97\xcf\xff"])
def test_w8_nonsense_in_the_channel_ends_the_worker_that_sent_it(
    client: synk.Client, tmp_path: Path, text: str
) -> None:
    log = tmp_path / "log"

    row = run(client, "garble_channel", text=text, log=log, path=tmp_path / "never")

    error = error_of(row)
    assert (error.cause, error.signal, row.crashes) == (Cause.EXIT, "SIGKILL", 1)
    assert "nonsense" in error.error
    assert is_gone(begun(log, "garble_channel"))
    assert run(client, "nothing").state is JobState.COMPLETED


@pytest.mark.parametrize("number", [16, 1000, 80_000])
def test_w8_an_overwritten_page_ends_the_worker_that_did_it(
    client: synk.Client, number: int
) -> None:
    row = run(client, "garble_page", number=number)

    error = error_of(row)
    assert (error.cause, row.crashes) == (Cause.EXIT, 1)
    assert "nonsense" in error.error
    assert run(client, "nothing").state is JobState.COMPLETED


def test_w9_a_worker_that_dies_before_its_reply_has_given_none(dsn: str) -> None:
    with acting(dsn, on_worker_start=faults.killed_before_reply, processes=1) as client:
        row = run(client, "big_result", number=60_000)

    assert (row.result, error_of(row).signal) == (None, "SIGKILL")


def test_w9_a_worker_that_dies_after_its_reply_has_given_it(dsn: str) -> None:
    with acting(dsn, on_worker_start=faults.killed_after_reply, processes=1) as client:
        row = run(client, "big_result", number=60_000)
        after = run(client, "nothing")

    assert (row.state, row.result, row.errors) == (JobState.COMPLETED, "x" * 60_000, [])
    assert (after.state, after.attempt) == (JobState.COMPLETED, 1)
    assert after.pid != row.pid


def test_w9_a_worker_that_stops_before_its_reply_keeps_nobody_waiting(
    dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with acting(dsn, on_worker_start=faults.stopped_before_reply) as client:
        job_id = insert(client, "big_result", number=60_000, log=log, timeout_s=1.0)
        begun(log, "big_result")
        others = [run(client, "nothing") for _ in range(20)]
        row = ended(client, job_id)

    assert {other.state for other in others} == {JobState.COMPLETED}
    assert (row.result, error_of(row).cause) == (None, Cause.TIMEOUT)


def test_w9_a_worker_that_stops_after_its_reply_is_replaced(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lateness, "DISPATCH_S", 0.5)
    with acting(dsn, on_worker_start=faults.stopped_after_reply, processes=1) as client:
        row = run(client, "big_result", number=60_000)
        after = run(client, "nothing", timeout_s=20)

    assert (row.state, row.result) == (JobState.COMPLETED, "x" * 60_000)
    assert (after.state, after.attempt, after.errors) == (JobState.COMPLETED, 1, [])
    assert after.pid != row.pid


def test_w10_a_worker_that_does_not_take_its_job_is_replaced_and_the_job_not_charged(
    dsn: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lateness, "DISPATCH_S", 0.5)
    with acting(dsn) as client:
        run(client, "nothing")
        deaf = both_workers_of(client.id)
        for pid in deaf:
            os.kill(pid, signal.SIGSTOP)

        ended_ = ended(client, insert_large(connection))

    assert (ended_.state, ended_.attempt, ended_.errors) == (JobState.COMPLETED, 1, [])
    assert ended_.pid not in deaf


def test_w10_the_lease_is_renewed_while_a_worker_floods_and_another_takes_nothing(
    dsn: str, connection: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lateness, "DISPATCH_S", 60.0)
    log = tmp_path / "log"
    with acting(dsn, lease_ttl=timedelta(seconds=6)) as client:
        run(client, "nothing")
        flooding = insert(client, "print_for_ever", log=log)
        others = {*both_workers_of(client.id)} - {begun(log, "print_for_ever")}
        with stopped(others.pop()):
            large = insert_large(connection)
            wait_until(lambda: is_running(client, large), what="the claim")
            before = beats(connection)

            wait_until(lambda: beats(connection) >= before + 2)

            in_time = connection.execute("SELECT lease_until > now() FROM synk.client")
            assert in_time.fetchone() == (True,)
            assert is_running(client, flooding)
            assert is_running(client, large)
        assert ended(client, large).state is JobState.COMPLETED


def insert_large(connection: psycopg.Connection) -> int:
    """Inserts a job with arguments of 8 MB, more than a channel takes."""
    row = connection.execute(
        "INSERT INTO synk.job (kind, name, max_attempts, args) VALUES ('act', 'x', 1,"
        " jsonb_build_object('do', 'nothing', 'text', repeat('x', 8000000))) RETURNING id"
    ).fetchone()
    assert row is not None
    return row[0]


def beats(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT beat FROM synk.client").fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("do", "shown"),
    [
        ("lambda_result", "the result is not JSON: a builtins.function cannot be stored: return"),
        ("deep_result", "the result is not JSON"),
        ("circular_result", "the result is not JSON"),
        ("big_result", "the result is 50000002 bytes of JSON, at most 65536"),
        ("exiting_result", "the result is not JSON"),
    ],
)
def test_w11_a_result_that_cannot_be_stored_fails_the_job_at_once_and_says_so(
    client: synk.Client, do: str, shown: str
) -> None:
    facts = Facts(client)
    row = run(client, do, number=50_000_000, retries=6)
    error = error_of(row)

    assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.FAILED)
    assert error.cause is Cause.EXCEPTION
    assert error.error.startswith(f"ValueError: {shown}")
    assert error.error.endswith("The work was done, and the job is not tried again")
    (told,) = facts.of(telemetry.AttemptFailed)
    assert (told.severity, f"job {row.id} ({row.kind}) attempt 1/7 failed" in str(told)) == (
        logging.ERROR,
        True,
    )


def test_w11_what_ends_the_process_while_it_is_written_down_is_an_exit(
    client: synk.Client,
) -> None:
    error = error_of(run(client, "exiting_error"))

    assert (error.cause, error.exit_code) == (Cause.EXIT, 5)
    assert run(client, "nothing").state is JobState.COMPLETED
