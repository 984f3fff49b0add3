"""The command line in a terminal of 80 columns and 24 lines, and where there is none."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import synk
from support.commands import ENV, run
from support.jobs import handlers
from support.supervising import DEADLINE_S, ended, is_running, make_client, supervised, wait_until


class Terminal:
    """A program in a terminal of its own: what it has written so far, and keys to press."""

    def __init__(self, dsn: str, *arguments: str, lines: int = 24) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 80, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        # By itself, the terminal would belong to this test's session.
        program = (
            "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
            "from synk.cli import main; main()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env={**ENV, "SYNK_DATABASE_URL": dsn, "TERM": "xterm", "COLUMNS": "", "LINES": ""},
            stdin=self.slave, stdout=self.slave, stderr=self.slave,
        )  # fmt: skip

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def read(self, seconds: float = 0.05) -> None:
        while select.select([self.master], [], [], seconds)[0]:
            self.text += os.read(self.master, 65536).decode(errors="replace")
            seconds = 0.0

    def shows(self, pattern: str) -> bool:
        self.read()
        return re.search(pattern, self.screen, re.MULTILINE) is not None

    @property
    def screen(self) -> str:
        """The lines of the last picture, without colours."""
        last = self.text.rpartition("\x1b[H")[2] or self.text
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last).replace("\r", "")

    def wait(self) -> int:
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < deadline, "the program did not end"
        self.read()
        return self.process.returncode


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with make_client(dsn) as client:
        yield client


def failed_jobs(client: synk.Client, count: int) -> list[int]:
    options = synk.InsertOptions(max_retries=0)
    return [client.insert("bad", handlers.Misbehave("raise_chain"), options) for _ in range(count)]


@pytest.mark.parametrize("key", ["q", "Q", "\x03"])
def test_q_leaves_top_and_the_terminal_is_as_it_was(client: synk.Client, dsn: str, key: str):
    with Terminal(dsn, "top") as terminal:
        wait_until(lambda: terminal.shows("synk top"), what="the picture")
        os.write(terminal.master, key.encode())
        status = terminal.wait()

        assert status == (130 if key == "\x03" else 0)
        assert termios.tcgetattr(terminal.slave) == terminal.before
        assert "Traceback" not in terminal.text


def test_top_shows_every_busy_worker_and_the_last_errors_in_24_lines(
    dsn: str, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")
    with supervised(dsn, processes=8) as client:
        for job_id in failed_jobs(client, 7):
            ended(client, job_id)
        ids = [client.insert(f"slow {n}", handlers.Slow(gate)) for n in range(8)]
        for n in range(12):
            client.insert("x", handlers.Noop(), synk.InsertOptions(queue=f"nobodys {n}"))
        wait_until(lambda: all(is_running(client, job_id) for job_id in ids))
        with Terminal(dsn, "top", "--every", "0.2") as terminal:
            wait_until(lambda: terminal.shows(r"8 of 8 workers busy"), what="8 busy workers")
            wait_until(lambda: terminal.shows(r"ValueError"), what="the errors")
            screen = terminal.screen
            os.write(terminal.master, b"q")
            terminal.wait()
        (tmp_path / "gate").touch()
        attempted_by = client.get(ids[0])

    assert len(screen.splitlines()) <= 24
    assert all(re.search(rf"^ +\d +\d+ +{job_id} +slow ", screen, re.MULTILINE) for job_id in ids)
    assert "last errors" in screen
    assert re.search(r"and \d+ queues more", screen)
    assert attempted_by is not None
    assert attempted_by.attempted_by[0] in screen


def test_states_are_whole_words_at_80_columns(client: synk.Client, dsn: str) -> None:
    ids = client.insert_many(
        [(f"a rather long name of a job {n}", handlers.Typed(n)) for n in range(3)]
    )
    client.cancel(ids[0])
    client.insert("later", handlers.Noop(), synk.InsertOptions(pending=True))
    with Terminal(dsn, "jobs") as terminal:
        assert terminal.wait() == 0
        lines = terminal.screen.splitlines()

    assert "cancelled (requested)" in terminal.screen
    assert len(lines) == 5
    assert all(len(line.rstrip()) <= 80 for line in lines)
    words = " ".join(lines).split()
    assert {"available", "pending"} <= set(words)


def test_numbers_of_stats_are_whole_at_80_columns(dsn: str, connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO synk.job (kind, name, state, finalized_at, duration_us, peak_rss_bytes)"
        " SELECT 'send_invoice_email_again_to_all', 'x', 'completed', now(), 234567, 123456789"
        " FROM generate_series(1, 12345)"
    )
    with Terminal(dsn, "stats") as terminal:
        assert terminal.wait() == 0
        lines = terminal.screen.splitlines()

    kind, *numbers = lines[1].split()
    assert numbers == ["12,345", "0", "0", "0", "235", "ms", "235", "ms"]
    assert kind.startswith("send_invoice_email")
    assert all(len(line.rstrip()) <= 80 for line in lines)


def test_a_traceback_is_not_padded_where_there_is_no_terminal(dsn: str) -> None:
    with supervised(dsn, processes=1) as client:
        (job_id,) = failed_jobs(client, 1)
        ended(client, job_id)

        shown = run("job", str(job_id), dsn=dsn).stdout

    assert "inner_function" in shown
    assert [line for line in shown.splitlines() if line != line.rstrip()] == []


def test_failed_jobs_are_told_from_a_users_cancels_and_listed_by_time(dsn: str) -> None:
    with supervised(dsn, processes=1) as client:
        failed = failed_jobs(client, 3)
        for job_id in failed:
            ended(client, job_id)
        asked = client.insert("x", handlers.Noop(), synk.InsertOptions(pending=True))
        client.cancel(asked)

        def listed(*options: str) -> list[int]:
            done = run("jobs", "--json", *options, dsn=dsn)
            assert done.returncode == 0, done.stderr
            return [row["id"] for row in json.loads(done.stdout)]

        assert listed("--reason", "failed") == failed[::-1]
        assert listed("--reason", "requested", "--since", "1h") == [asked]
        assert listed("--reason", "failed", "--since", "2w", "--kind", "misbehave") == failed[::-1]
        assert listed("--reason", "failed", "--kind", "typed") == []
        assert listed("--reason", "failed", "--state", "completed") == []
        assert listed("--since", "2999-01-01") == []
        assert listed("--since", "2020-01-01T10:00+01:00", "--queue", "default") == [
            asked, *failed[::-1],
        ]  # fmt: skip
        short = run("jobs", "--reason", "failed", "--limit", "2", dsn=dsn)

    assert short.stdout.count("cancelled (failed)") == 2
    assert short.stderr == "synk: there are more than these 2: see --limit\n"


@pytest.mark.parametrize("since", ["1x", "", "d", "-1d", "yesterday", "99999999999d", "1.5h"])
def test_a_since_that_makes_no_sense_is_one_line(since: str, dsn: str) -> None:
    done = run("jobs", "--since", since, dsn=dsn)

    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert f"--since={since!r}: must be an age" in done.stderr


def test_a_search_in_more_jobs_than_are_looked_at_says_so(
    dsn: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        "INSERT INTO synk.job (kind, name, state, finalized_at) SELECT 'k', 'x', 'completed', now()"
        " FROM generate_series(1, 10001)"
    )

    for options in ([], ["--since", "1h"], ["--state", "completed", "--since", "1h"]):
        found = run("jobs", "--kind", "other", *options, dsn=dsn)

        assert (found.returncode, found.stdout) == (0, "no jobs\n")
        assert found.stderr == "synk: looked at the last 10,000 jobs only, there may be more\n"


def test_stats_in_json_have_what_there_is(client: synk.Client, dsn: str) -> None:
    client.insert("x", handlers.Noop(), synk.InsertOptions(pending=True))
    client.insert("x", handlers.Noop(), synk.InsertOptions(queue="slow"))
    client.insert("x", handlers.Noop(), synk.InsertOptions(queue="slow"))

    record = json.loads(run("stats", "--json", dsn=dsn).stdout)
    of_default = json.loads(run("stats", "--json", "--queue", "default", dsn=dsn).stdout)
    shown = run("stats", dsn=dsn).stdout

    (kind,) = record["kinds"]
    assert (kind["kind"], kind["unfinished"], kind["duration_p50"]) == ("noop", 3, None)
    assert record["states"] == dict.fromkeys(synk.JobState, 0) | {"available": 2, "pending": 1}
    assert record["queues"] == {"slow": {"available": 2, "running": 0}}
    assert (of_default["states"]["available"], of_default["queues"]) == (0, {})
    lines = shown.splitlines()
    assert lines[1].split()[:5] == ["noop", "0", "0", "0", "3"]
    assert lines[2:] == [
        "", "2 available  1 pending", "", "queue  available  running", "slow           2        0",
    ]  # fmt: skip


def test_the_version_is_told_without_a_database() -> None:
    assert run("--version").stdout == f"synk {synk.__version__}\n"


def test_a_queue_that_the_client_does_not_have_is_refused(dsn: str, tmp_path: Path) -> None:
    app = "import synk\nfrom support.jobs import handlers\n"
    app += "client = synk.Client(storage=synk.PostgresStorage(), "
    app += "queues={'default': synk.QueueConfig()}, workers=handlers.WORKERS)\n"
    (tmp_path / "app.py").write_text(app)

    done = run("start", "app:client", "--queue", "nope", dsn=dsn, cwd=tmp_path)

    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--queue='nope': this client has no such queue; it has: default" in done.stderr
