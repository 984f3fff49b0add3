"""X6 and X8: the database's password, and what jobs are given, are where they belong only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import synk
from support import servers
from support.jobs.snooping import Peek, Say, Snoop
from support.servers import Server
from support.starting import StartedApp
from support.supervising import ended, make_client
from synk import JobState

CANARY = "c4nary-of-the-database"
TOLD_ONCE = "c4nary-of-the-job"
TRACING = "-sys_ptrace,-perfmon,-sys_admin"
TRACES_NOBODY = (
    ["setpriv", f"--bounding-set={TRACING}", f"--inh-caps={TRACING}"] if os.geteuid() == 0 else []
)
"""Runs a command without the rights by which root may trace any process, as containers do."""

ONCE = synk.InsertOptions(max_retries=0)

APP = """
import logging, sys, synk
from support.jobs import snooping
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
client = synk.Client(
    storage=synk.PostgresStorage(),
    queues={"default": synk.QueueConfig()},
    workers=snooping.WORKERS,
    processes=1,
    worker_env=["PATH", "SYNK_TEST_MARK", "HOME"],
)
"""
"""Its jobs see little of the environment."""


@pytest.fixture
def login_dsn(server: Server, dsn: str) -> Iterator[str]:
    """The test's database for a supervisor's role with a password, which the server asks for."""
    role = sql.Identifier(servers.LOGIN)
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(role))
        admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE synk_supervisor").format(
                role, sql.Literal(CANARY)
            )
        )
        try:
            psycopg.connect(dsn, user=servers.LOGIN, password=CANARY[::-1]).close()
            pytest.skip("this server asks for no password")
        except psycopg.OperationalError:
            yield make_conninfo(dsn, user=servers.LOGIN, password=CANARY)
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


def seen_of(pid: int) -> dict[str, bytes]:
    """What others may see of a process in a list of processes, and what it was given."""
    place = Path(f"/proc/{pid}")
    return {name: (place / name).read_bytes() for name in ("cmdline", "environ", "comm")}


def test_x6_x8_a_database_password_is_in_no_log_row_list_of_processes_or_worker(
    login_dsn: str, dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    with (
        StartedApp(tmp_path / "app", login_dsn, app=APP) as app,
        make_client(dsn) as client,
    ):
        snooped = ended(client, client.insert("x", Snoop(CANARY[::-1])))
        pids = [pid for pid in app.processes() if pid != app.process.pid]
        seen = {pid: seen_of(pid) for pid in pids}
        own = seen_of(app.process.pid)
        # Trouble with the database is told; so is the way back.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
            (servers.LOGIN,),
        )
        app.wait_for_log("trying again")
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD 'another'").format(sql.Identifier(servers.LOGIN))
        )
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
            (servers.LOGIN,),
        )
        app.wait_for_log("password authentication failed")
        app.signal(signal.SIGTERM)
        app.wait()
        rows = connection.execute(
            "SELECT j::text FROM synk.job AS j UNION ALL SELECT c::text FROM synk.client AS c"
        ).fetchall()

    assert snooped.result == []
    assert len(pids) >= 2
    assert all(CANARY.encode() not in text for each in seen.values() for text in each.values())
    # The environment of the supervisor is where it came from; its arguments and name are not.
    assert CANARY.encode() not in own["cmdline"] + own["comm"]
    assert CANARY not in app.log
    assert all(CANARY not in str(row) for row in rows)


def test_x6_a_job_cannot_look_into_the_supervisor_of_synk_start(dsn: str, tmp_path: Path) -> None:
    with (
        StartedApp(tmp_path / "app", dsn, app=APP, prefix=TRACES_NOBODY) as app,
        make_client(dsn) as client,
    ):
        row = ended(client, client.insert("x", Peek(app.process.pid)))
        app.signal(signal.SIGTERM)
        assert app.wait() == 0

    assert row.result == {
        "its environ": "closed",
        "its mem": "closed",
        # So the job could look, were it not closed.
        "parent's environ": "open",
        "parent's mem": "open",
    }


def test_x6_a_worker_is_given_the_dsn_if_that_is_asked_for(dsn: str, tmp_path: Path) -> None:
    listed = APP.replace('"HOME"', '"SYNK_DATABASE_URL"')
    word = conninfo_to_dict(dsn)["dbname"]
    with StartedApp(tmp_path / "app", dsn, app=listed), make_client(dsn) as client:
        row = ended(client, client.insert("x", Snoop(str(word)[::-1])))

    assert isinstance(row.result, list)
    assert "SYNK_DATABASE_URL" in row.result


def test_x8_no_log_tells_what_a_job_was_given_or_held(dsn: str, tmp_path: Path) -> None:
    with StartedApp(tmp_path / "app", dsn, app=APP) as app, make_client(dsn) as client:
        job_id = client.insert("x", Say("it has {} letters", TOLD_ONCE), ONCE)
        row = ended(client, job_id)
        app.wait_for_log("it has")
        app.signal(signal.SIGTERM)
        app.wait()

    assert row.state is JobState.CANCELLED
    assert TOLD_ONCE not in app.log
    assert TOLD_ONCE not in row.errors[0].to_json()


def test_x8_no_command_shows_a_password(login_dsn: str) -> None:
    path = os.pathsep.join(filter(None, sys.path))
    env = {**os.environ, "SYNK_DATABASE_URL": login_dsn, "PYTHONPATH": path}
    wrong = {**env, "SYNK_DATABASE_URL": login_dsn.replace(CANARY, f"{CANARY}-not")}
    told = ""
    for given, arguments in ((env, ["jobs"]), (env, ["top", "--once"]), (wrong, ["stats"])):
        command = [sys.executable, "-m", "synk", *arguments]
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
        told += done.stdout + done.stderr

    assert "password authentication failed" in told
    assert CANARY not in told


def test_x8_no_fact_or_name_of_a_storage_has_its_password(login_dsn: str) -> None:
    storage = synk.PostgresStorage(login_dsn)
    client = synk.Client(storage=storage)
    shown = f"{storage!r} {storage.describe()} {client!r} {vars(client)!r}"
    storage.counts()
    storage.close()

    assert CANARY not in shown
