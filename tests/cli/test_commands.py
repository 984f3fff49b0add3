"""The command line, as a process of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import synk
from support.commands import ENV, run
from support.jobs import handlers
from support.needs import run_in_psql
from support.supervising import DEADLINE_S, ended, make_client


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with make_client(dsn) as client:
        yield client


def test_migrate_makes_the_tables_and_then_has_nothing_to_do(empty_dsn: str) -> None:
    first = run("migrate", dsn=empty_dsn)
    second = run("migrate", "--storage", empty_dsn)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "001 jobs" in first.stdout
    assert "nothing to do" in second.stdout


def test_the_printed_sql_makes_the_same_tables_by_hand(empty_dsn: str, tmp_path: Path) -> None:
    script = tmp_path / "synk.sql"
    script.write_text(run("migrate", "--sql").stdout)

    done = run_in_psql(script, empty_dsn)

    assert done.returncode == 0, done.stderr

    with make_client(empty_dsn) as client:
        client.storage.ping()
        assert client.insert("x", handlers.Noop()) == 1


def test_jobs_are_listed_newest_first_and_filtered(client: synk.Client, dsn: str) -> None:
    ids = client.insert_many([("one", handlers.Noop()), ("two", handlers.Typed(1))])
    client.cancel(ids[0])

    table = run("jobs", dsn=dsn)
    filtered = run("jobs", "--state", "cancelled", "--json", dsn=dsn)
    by_kind = run("jobs", "--kind", "typed", "--queue", "default", "--json", dsn=dsn)

    assert table.returncode == 0, table.stderr
    assert table.stdout.index("two") < table.stdout.index("one")
    assert "cancelled (requested)" in table.stdout
    assert [row["id"] for row in json.loads(filtered.stdout)] == [ids[0]]
    assert [row["id"] for row in json.loads(by_kind.stdout)] == [ids[1]]


def test_an_empty_list_says_so(dsn: str) -> None:
    assert run("jobs", dsn=dsn).stdout == "no jobs\n"


@pytest.mark.parametrize(
    ("verb", "options", "said"),
    [
        ("cancel", {}, "cancelled"),
        ("ready", {"pending": True}, "let go"),
        ("delete", {}, "deleted"),
    ],
)
def test_a_change_says_what_it_did(
    client: synk.Client, dsn: str, verb: str, options: dict, said: str
) -> None:
    job_id = client.insert("x", handlers.Noop(), synk.InsertOptions(**options))

    done = run(verb, str(job_id), dsn=dsn)
    again = run(verb, str(job_id), "999", dsn=dsn)

    assert (done.returncode, done.stdout) == (0, f"job {job_id}: {said}\n")
    assert again.returncode == 1
    assert "job 999: there is no such job" in again.stdout


def test_retry_brings_a_cancelled_job_back(client: synk.Client, dsn: str) -> None:
    job_id = client.insert("x", handlers.Noop())
    client.cancel(job_id)

    done = run("retry", str(job_id), dsn=dsn)
    again = run("retry", str(job_id), dsn=dsn)

    assert done.stdout == f"job {job_id}: available again\n"
    assert again.stdout == f"job {job_id}: unchanged: it is available\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("jobs",), "set SYNK_DATABASE_URL"),
        (("jobs", "--state", "discarded"), "discarded"),
        (("jobs", "--limit", "0"), "limit"),
        (("job", "x"), "Invalid value for 'ID'"),
        (("start", "nonsense"), "must be MODULE:NAME"),
        (("start", "no_such_module:client"), "there is no module no_such_module"),
        (("start", "support.jobs.handlers:WORKERS"), "is no synk.Client"),
        (("start", "support.jobs.handlers:nothing"), "is no synk.Client"),
        (("start", "a:b", "--processes", "0"), "processes"),
        (("start", "a:b", "--log-level", "loud"), "--log-level='loud'"),
        (("demo", "/no/such/folder"), "is no folder"),
        (("migrate", "--schema", "Robert'); --", "--storage", "embedded"), "schema="),
        (("jobs", "--storage", "postgresql://u:secret@h/d?wrong=1"), "storage="),
    ],
)
def test_a_wrong_use_is_told_without_a_traceback(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)

    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("command", [("jobs",), ("job", "1"), ("migrate",), ("cancel", "1")])
def test_a_server_that_is_down_is_one_line(command: tuple[str, ...]) -> None:
    done = run(*command, "--storage", "postgresql://u:secret@127.0.0.1:9/d")

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "cannot use database d at 127.0.0.1:9" in done.stderr
    assert "secret" not in done.stderr


def test_a_database_without_tables_is_told_what_to_do(empty_dsn: str) -> None:
    done = run("jobs", dsn=empty_dsn)

    assert done.returncode == 1
    assert "run `synk migrate`" in done.stderr


APP = """
import synk
from support.commands import ENV, run
from support.jobs import handlers
from support.needs import run_in_psql
client = synk.Client(
    storage=synk.PostgresStorage(),
    queues={"default": synk.QueueConfig(), "other": synk.QueueConfig()},
    workers=handlers.WORKERS,
)
"""


def test_start_serves_a_client_of_the_current_folder_until_sigterm(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    wanted = client.insert(
        "x", handlers.Misbehave("raise_chain"), synk.InsertOptions(max_retries=0)
    )
    unserved = client.insert("x", handlers.Noop(), synk.InsertOptions(queue="other"))
    process = subprocess.Popen(
        [sys.executable, "-m", "synk", "start", "app:client", "--processes", "1",
         "--queue", "default=1"],
        cwd=tmp_path, env={**ENV, "SYNK_DATABASE_URL": dsn},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        ended(client, wanted)
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 0, log
    assert re.search(r"INFO synk \w{26} started: 1 worker processes, queues default,", log)
    assert f"ERROR job {wanted} (misbehave) attempt 1/1 failed, now cancelled (failed): " in log
    row = client.get(unserved)
    assert row is not None
    assert row.attempt == 0
    shown = run("job", str(wanted), dsn=dsn)
    assert "inner_function" in shown.stdout
    assert "ValueError: the top" in shown.stdout
    record = json.loads(run("job", str(wanted), "--json", dsn=dsn).stdout)
    assert record["errors"][0]["cause"] == "exception"


def test_a_job_that_waits_for_thousands_is_shown_with_the_first_of_them(
    client: synk.Client, dsn: str
) -> None:
    ids = client.insert_many([("x", handlers.Noop())] * 1100)
    last = client.insert("y", handlers.Noop(), synk.InsertOptions(depends_on=tuple(ids)))

    shown = " ".join(run("job", str(last), dsn=dsn).stdout.split())

    assert "waiting_on 1, 2, 3, " in shown
    assert shown.count("100 and 1,000 more") == 2
    record = json.loads(run("job", str(last), "--json", dsn=dsn).stdout)
    assert record["waiting_on"] == record["depends_on"] == ids
