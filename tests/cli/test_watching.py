"""``synk top``, ``stack``, ``stats`` and ``job``, of a supervisor that runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

import synk
from support.commands import run
from support.jobs import handlers
from support.supervising import ended, supervised, wait_until

AN_HOUR = timedelta(hours=1)


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with supervised(dsn) as client:
        yield client


@pytest.fixture
def slow(client: synk.Client, tmp_path: Path) -> int:
    job_id = client.insert("slow one", handlers.Slow(str(tmp_path / "gate")))
    wait_until(lambda: (row := client.get(job_id)) and row.progress)
    return job_id


def test_top_shows_supervisors_queues_slots_and_errors(
    client: synk.Client, slow: int, dsn: str
) -> None:
    failed = client.insert("bad", handlers.Misbehave("raise_group"), synk.InsertOptions())
    client.insert("waits", handlers.Noop(), synk.InsertOptions(queue="nobody serves this"))
    wait_until(lambda: "both" in run("top", dsn=dsn).stdout)

    shown = run("top", "--once", dsn=dsn).stdout

    assert "1 supervisor, " in shown
    assert re.search(r"^nobody serves this +1 +0 +nobody *$", shown, re.MULTILINE)
    assert re.search(r"^default .* 1 supervisor *$", shown, re.MULTILINE)
    assert re.search(
        rf"^ +\d +\d+ +{slow} +slow +slow one .* MB .* 3/12 a third", shown, re.MULTILINE
    )
    assert re.search(rf" {failed} +1 +misbehave +ExceptionGroup: both", shown)


def test_top_says_that_nothing_is_there(dsn: str) -> None:
    done = run("top", dsn=dsn)

    assert done.returncode == 0
    assert "no supervisor runs, and no job waits" in done.stdout


def test_stack_prints_where_a_job_is(slow: int, dsn: str) -> None:
    done = run("stack", str(slow), dsn=dsn)

    assert done.returncode == 0, done.stderr
    assert "in wait_for_the_gate" in done.stdout


def test_stack_of_a_job_that_does_not_run_is_one_line(dsn: str) -> None:
    done = run("stack", "77", dsn=dsn)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "synk: job 77 does not run\n"


def test_stats_says_what_kinds_take(client: synk.Client, dsn: str) -> None:
    for _ in range(3):
        ended(client, client.insert("typed", handlers.Typed(1)))

    shown = run("stats", dsn=dsn).stdout

    heading, line, *_ = shown.splitlines()
    assert heading.split()[-6:] == ["p50", "p95", "max", "CPU", "peak", "memory"]
    assert line.split()[:2] == ["typed", "3"]


def test_job_shows_the_account_of_its_attempt(
    client: synk.Client, slow: int, dsn: str, tmp_path: Path
) -> None:
    while_it_runs = run("job", str(slow), dsn=dsn).stdout
    (tmp_path / "gate").touch()
    ended(client, slow)
    afterwards = run("job", str(slow), dsn=dsn).stdout

    assert re.search(r"^progress +3 of 12 \(25%\) a third", while_it_runs, re.MULTILINE)
    assert re.search(r'^checkpoint +{"page": 3}', while_it_runs, re.MULTILINE)
    assert re.search(r"^took .*, CPU .*, peak memory \d+ MB", afterwards, re.MULTILINE)
    assert re.search(r"^ran in +pid \d+ on \S+", afterwards, re.MULTILINE)


def test_job_says_that_no_supervisor_serves_its_queue(client: synk.Client, dsn: str) -> None:
    served = client.insert("x", handlers.Noop(), synk.InsertOptions(pending=True))
    unserved = client.insert("x", handlers.Noop(), synk.InsertOptions(queue="nobodys"))

    assert "no supervisor serves queue nobodys" in run("job", str(unserved), dsn=dsn).stdout
    assert "no supervisor" not in run("job", str(served), dsn=dsn).stdout


def test_job_and_top_say_that_no_supervisor_knows_its_kind(client: synk.Client, dsn: str) -> None:
    known = client.insert("x", handlers.Noop(), synk.InsertOptions(pending=True))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO synk.job (kind, name, scheduled_at) VALUES ('misspelt', 'x', DEFAULT),"
            " ('misspelt', 'x', DEFAULT), ('later', 'x', now() + interval '1 day')"
        )
        ids = [id for (id,) in connection.execute("SELECT id FROM synk.job ORDER BY id").fetchall()]
    first, _, later = ids[1:]

    said = "no supervisor knows kind misspelt in queue default"
    assert f"waits         {said}\n" in run("job", str(first), dsn=dsn).stdout
    assert "no supervisor knows kind later" in run("job", str(later), dsn=dsn).stdout
    assert "no supervisor" not in run("job", str(known), dsn=dsn).stdout
    shown = run("top", "--once", dsn=dsn).stdout.splitlines()
    assert [line for line in shown if "knows" in line] == [f"{said}: 2 jobs since job {first}"]


def test_top_counts_the_unknown_kinds_that_it_has_no_room_for(
    client: synk.Client, dsn: str
) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO synk.job (kind, name) SELECT 'kind ' || n % 9, 'x'"
            " FROM generate_series(1, 5000) AS n"
        )
    wait_until(lambda: any(each.kinds for each in client.storage.clients(AN_HOUR)))

    shown = run("top", "--once", dsn=dsn).stdout

    assert len(re.findall(r"knows kind kind \d in queue default: \d+\+ jobs", shown)) == 3
    assert "\nnor 6 kinds more\n" in shown


def test_x14_control_characters_of_a_row_do_not_reach_the_terminal(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO synk.job (kind, name, queue)"
            " VALUES (E'k\\x1b[2J', E'n\\x1b[1A\\nline', E'q\\x1b[0m')"
        )

    shown = [run(*words, dsn=dsn).stdout for words in (["jobs"], ["job", "1"], ["top"], ["stats"])]

    assert all("\x1b" not in text for text in shown)
    assert all("\ufffd" in text for text in shown)
