"""What jobs print, as `synk start` passes it on: each line with its job, none lost."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

import synk
from support.commands import ENV
from support.servers import Server
from support.supervising import DEADLINE_S, ended, make_client, wait_until

APP = r"""
import ctypes, json, logging, os, signal, subprocess, sys, threading, time, pathlib, synk
from dataclasses import dataclass

@dataclass
class Tell(synk.JobArgs, kind="tell"):
    program: str = ""

logging.getLogger("own").propagate = False
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logging.Formatter("OWN %(message)s"))
logging.getLogger("own").addHandler(handler)

def wait_for(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.005)

@synk.worker
def tell(job: synk.Job[Tell]) -> None:
    exec(job.args.program, globals() | {"job": job})

def hook():
    print("a hook prints")

client = synk.Client(storage=synk.PostgresStorage(), queues={"default": synk.QueueConfig()},
                     workers=[tell], processes=2, on_worker_start=hook)
"""


@dataclass
class Told:
    """One `synk start` for jobs that print."""

    client: synk.Client
    dsn: str
    log: Path
    runs: int = 0

    def insert(self, program: str) -> int:
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute(
                "INSERT INTO synk.job (kind, name, args, max_attempts)"
                " VALUES ('tell', 'x', jsonb_build_object('program', %s::text), 1) RETURNING id",
                [program],
            ).fetchone()
        assert row is not None
        return row[0]

    def run(self, *programs: str) -> tuple[list[synk.JobRow], list[bytes]]:
        """Runs jobs at the same time; returns their rows, and what was passed on since."""
        before = len(self.log.read_bytes())
        ids = [self.insert(program) for program in programs]
        rows = [ended(self.client, job_id) for job_id in ids]
        self.runs += 1
        last = f"end of run {self.runs}\n".encode()
        self.insert(f"print('end of run {self.runs}')")
        wait_until(lambda: self.log.read_bytes().endswith(last))
        return rows, self.log.read_bytes()[before:].split(b"\n")[:-2]


@pytest.fixture(scope="module")
def told(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("passed_on")
    (folder / "app.py").write_text(APP)
    command = [sys.executable, "-m", "synk", "start", "app:client"]
    with (
        server.database() as dsn,
        make_client(dsn) as client,
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            command, cwd=folder, stderr=log, env={**ENV, "SYNK_DATABASE_URL": dsn}
        ) as process,
    ):
        try:
            wait_until(lambda: (folder / "log").read_bytes().count(b"hook") == 2)
            yield Told(client, dsn, folder / "log")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE_S)


WAYS = r"""
print("one\n\ntwo")
print("to stderr", file=sys.stderr)
ctypes.CDLL(None).puts(b"by puts")
os.write(1, b"no text: \xff\xfe\n")
subprocess.run(["sh", "-c", "echo by a child; echo and its stderr >&2"], check=True)
print(json.dumps({"event": "an object", "level": "info"}))
print(f"job {job.id} ({job.kind}) says so itself")
print("short\r\x1b[Klonger\r\n", end="")
logging.getLogger("app").warning("by logging\nin two lines")
logging.getLogger("own").warning("by a handler")
os.write(1, b"begun ")
os.write(1, b"and ended later\n")
print("no end of line", end="")
"""


def test_a_line_that_a_job_prints_carries_its_id_and_kind_once(told: Told) -> None:
    (row,), lines = told.run(WAYS)

    head = f"job {row.id} (tell):".encode()
    assert [re.sub(rb"^[-\d]+ [:,\d]+ ", b"", line) for line in lines] == [
        head + b" one",
        head,
        head + b" two",
        head + b" to stderr",
        head + b" by puts",
        head + b" no text: \xff\xfe",
        head + b" by a child",
        head + b" and its stderr",
        b'{"event": "an object", "level": "info"}',
        f"job {row.id} (tell) says so itself".encode(),
        head + b" longer",
        f"WARNING job {row.id} (tell) app: by logging".encode(),
        b"in two lines",
        b"OWN by a handler",
        head + b" begun and ended later",
        head + b" no end of line",
    ]
    # The record of the attempt has no prefix.
    assert re.sub(r"(?m)^[-\d]+ [:,\d]+ ", "", row.output).split("\n") == [
        *("one", "", "two", "to stderr", "by puts", "no text: \ufffd\ufffd", "by a child"),
        *("and its stderr", '{"event": "an object", "level": "info"}'),
        *(f"job {row.id} (tell) says so itself", "longer"),
        f"WARNING job {row.id} (tell) app: by logging",
        *("in two lines", "OWN by a handler", "begun and ended later", "no end of line"),
    ]


def test_what_is_written_before_the_first_job_is_no_jobs(told: Told) -> None:
    log = told.log.read_bytes().split(b"\n")

    assert [line for line in log if b"hook" in line] == [b"a hook prints"] * 2


INTERLEAVED = """
mine = "{mine}"
for n in range(20):
    os.write(1, f"{{mine}}{{n}} ".encode())
    pathlib.Path(f"{{mine}}{{n}}").touch()
    wait_for(f"{other}{{n}}")
    os.write(1, b"goes on\\n")
"""


def test_lines_that_two_workers_write_at_once_are_whole_and_each_its_own_jobs(told: Told) -> None:
    rows, lines = told.run(
        INTERLEAVED.format(mine="a", other="b"), INTERLEAVED.format(mine="b", other="a")
    )

    for row, letter in zip(rows, "ab", strict=True):
        head = f"job {row.id} (tell): "
        whole = [f"{head}{letter}{n} goes on".encode() for n in range(20)]
        assert [line for line in lines if line.startswith(head.encode())] == whole


def test_many_short_jobs_get_each_its_own_label(told: Told) -> None:
    rows, lines = told.run(*[f"print('number {n}')" for n in range(200)])

    expected = {f"job {row.id} (tell): number {n}".encode() for n, row in enumerate(rows)}
    assert {line for line in lines if b"number" in line} == expected


def test_what_a_job_leaves_running_prints_with_that_jobs_label(told: Told) -> None:
    first = told.insert(
        "os.write(1, b'begins'); subprocess.Popen(['sh', '-c', 'while [ ! -e go ];"
        " do sleep 0.01; done; echo late; touch gone'])"
    )
    ended(told.client, first)
    _, between = told.run("pass")
    (second,), lines = told.run("pathlib.Path('go').touch(); wait_for('gone'); print('next')")

    assert f"job {first} (tell): begins".encode() in told.log.read_bytes().split(b"\n")
    assert between == []
    assert sorted(lines) == [
        f"job {first} (tell): late".encode(),
        f"job {second.id} (tell): next".encode(),
    ]


def test_the_last_words_of_a_job_that_is_killed_are_passed_on(told: Told) -> None:
    (row,), lines = told.run("os.write(1, b'last words'); os.kill(os.getpid(), signal.SIGKILL)")

    assert f"job {row.id} (tell): last words".encode() in lines
    assert row.errors[0].output == "last words"


def test_a_log_that_a_job_sends_elsewhere_has_no_marks(told: Told) -> None:
    program = """
file = open("own.log", "w")
elsewhere = logging.StreamHandler(file)
logging.getLogger("own").addHandler(elsewhere)
logging.getLogger("own").addHandler(logging.FileHandler("other.log"))
logging.getLogger("own").warning("first")
os.dup2(file.fileno(), 1)
logging.getLogger("own").warning("second")
file.flush()
del logging.getLogger("own").handlers[1:]
"""
    told.run(program)

    assert (told.log.parent / "own.log").read_text() == "first\nOWN second\nsecond\n"
    assert (told.log.parent / "other.log").read_text() == "first\nsecond\n"
