"""Jobs of a filter on the command line: a count, a question, and what became of them."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

import synk
from support.commands import ENV, run
from support.jobs import handlers
from support.supervising import DEADLINE_S, make_client, wait_until

REDRIVE = ("retry", "--reason", "failed", "--since", "1d", "--kind", "noop")


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with make_client(dsn) as client:
        yield client


@pytest.fixture
def failed(client: synk.Client, connection: psycopg.Connection) -> int:
    """Failed jobs, and one of another kind."""
    client.insert_many([("x", handlers.Noop(n)) for n in range(30)])
    client.insert("y", handlers.Typed(1))
    connection.execute("UPDATE synk.job SET state = 'cancelled', cancel_reason = 'failed'")
    return 30


def states(connection: psycopg.Connection) -> dict[str, int]:
    rows = connection.execute("SELECT state::text, count(*) FROM synk.job GROUP BY state")
    return dict(rows.fetchall())


def in_terminal(dsn: str, *arguments: str, typed: bytes = b"") -> tuple[int, str]:
    """Runs the command with a terminal; returns its status, and what is on that in the end."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "synk", *arguments, "--storage", dsn]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=ENV, start_new_session=True
    )
    os.close(theirs)
    os.write(ours, typed)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:
        pass  # it has ended
    os.close(ours)
    return process.wait(DEADLINE_S), shown.decode()


def test_the_redrive_of_what_failed(dsn: str, failed: int, connection: psycopg.Connection) -> None:
    done = run(*REDRIVE, "--yes", dsn=dsn)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "30 available again\n"
    assert states(connection) == {"available": failed, "cancelled": 1}


def test_a_dry_run_counts_and_does_nothing(
    dsn: str, failed: int, connection: psycopg.Connection
) -> None:
    done = run(*REDRIVE, "--dry-run", "--limit", "7", dsn=dsn)

    assert (done.returncode, done.stdout) == (
        0,
        "30 jobs, no more than 7 of which: nothing was done\n",
    )
    assert states(connection) == {"cancelled": failed + 1}


def test_nobody_is_asked_without_a_terminal(
    dsn: str, failed: int, connection: psycopg.Connection
) -> None:
    done = run(*REDRIVE, dsn=dsn)

    assert done.returncode == 2
    assert "whether to retry 30 jobs: give --yes" in done.stderr
    assert states(connection) == {"cancelled": failed + 1}


@pytest.mark.parametrize(("typed", "status", "left"), [(b"y\n", 0, 1), (b"n\n", 130, 31)])
def test_who_sits_at_a_terminal_is_asked(
    dsn: str, failed: int, connection: psycopg.Connection, typed: bytes, status: int, left: int
) -> None:
    code, shown = in_terminal(dsn, *REDRIVE, typed=typed)

    assert "retry 30 jobs?" in shown
    assert code == status, shown
    assert states(connection)["cancelled"] == left
    assert ("30 available again" in shown) is (left == 1)
    assert failed == 30


def test_a_filter_that_means_nothing_says_so(dsn: str, client: synk.Client) -> None:
    client.insert("x", handlers.Noop())

    done = run("cancel", "--kind", "none", dsn=dsn)

    assert (done.returncode, done.stdout) == (0, "0 jobs: nothing was done\n")


def test_cancel_and_delete_by_all_that_can_be_said(
    dsn: str, client: synk.Client, connection: psycopg.Connection
) -> None:
    tagged = synk.InsertOptions(tags=["a", "b"], queue="slow")
    ids = client.insert_many([("x", handlers.Noop(), tagged)] * 5)
    client.insert("x", handlers.Noop())

    cancelled = run(
        *("cancel", "--tag", "a", "--tag", "b", "--queue", "slow", "--state", "available"),
        *("--from-id", str(ids[1]), "--to-id", str(ids[3]), "--since", "1h", "--yes"),
        dsn=dsn,
    )
    deleted = run("delete", "--reason", "requested", "--limit", "2", "--yes", dsn=dsn)

    assert (cancelled.returncode, cancelled.stdout) == (0, "3 cancelled\n")
    assert (deleted.returncode, deleted.stdout) == (0, "2 deleted\n")
    assert states(connection) == {"available": 3, "cancelled": 1}


def test_what_could_not_be_changed_is_said_and_is_the_status(dsn: str, client: synk.Client) -> None:
    client.insert_many([("x", handlers.Noop()), ("x", handlers.Noop())])
    client.cancel(1)

    done = run("cancel", "--kind", "noop", "--yes", dsn=dsn)

    assert (done.returncode, done.stdout) == (1, "1 cancelled (1 applied, 1 refused)\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("retry",), "give the ids of jobs, or say which"),
        (("retry", "7", "--kind", "x"), "give ids, or --kind, not both"),
        (("retry", "--yes"), "says nothing"),
        (("retry", "--since", "soon"), "--since"),
        (("retry", "--reason", "bored"), "bored"),
        (("delete", "--from-id", "0"), "0"),
        (("delete", "--from-id", "9", "--to-id", "3"), "ids"),
        (("cancel", "--state", "running", "--reason", "failed"), "reason"),
        (("ready", "--kind", "x"), "--kind"),
    ],
)
def test_a_wrong_use_is_told_in_one_line(
    dsn: str, arguments: tuple[str, ...], problem: str
) -> None:
    done = run(*arguments, dsn=dsn)

    assert done.returncode == 2
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_stops_between_two_batches_and_says_how_many(
    dsn: str, connection: psycopg.Connection
) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            "INSERT INTO synk.job (kind, name, state, cancel_reason, finalized_at)"
            " SELECT 'k', 'x', 'cancelled', 'failed', now() FROM generate_series(1, 60000)"
        )
    command = [sys.executable, "-m", "synk", "retry", "--reason", "failed", "--yes"]
    process = subprocess.Popen(
        [*command, "--storage", dsn], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    wait_until(lambda: states(connection).get("available"), what="the first batch")
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=DEADLINE_S)

    applied = states(connection)["available"]
    assert process.returncode == 130, errors
    assert said == f"{applied:,} available again\n"
    assert 0 < applied < 60_000
    assert applied % 1_000 == 0
