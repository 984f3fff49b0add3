"""The demo as a process of its own: what it must bear, and what it must not leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

import synk
from support.jobs import handlers
from support.supervising import TESTS, make_client, wait_until

MARK = "DEMO_TEST"
"""In the environment of the demo, and so of everything that it starts."""


@contextmanager
def demo(dsn: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo that runs on *folder*, and the mark of all its processes."""
    mark = uuid4().hex
    env = {name: value for name, value in os.environ.items() if not name.startswith("SYNK_")}
    env |= {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), MARK: mark}
    process = subprocess.Popen(
        [sys.executable, "-m", "synk", "demo", str(folder), "--processes", "2", "--storage", dsn],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process, mark
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def marked_processes(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    found: list[int] = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(int(place.name))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dozen files, of which not all are Python, and not all are well."""
    for number in range(6):
        (tmp_path / f"module_{number}.py").write_text(f"value = [{number}] * 3\n" * 50)
    (tmp_path / "wrong.py").write_text("def (:\n")
    (tmp_path / "nul.py").write_bytes(b"\0\0\0")
    (tmp_path / "[markup].txt").write_text("text")
    (tmp_path / "empty").touch()
    (tmp_path / "large.bin").write_bytes(os.urandom(2_000_000))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "ünïcode.txt").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    return tmp_path


def test_all_files_and_all_planted_jobs_end_as_they_should(dsn: str, folder: Path) -> None:
    with make_client(dsn) as client:
        other = client.insert("not the demo's", handlers.Noop())
        with demo(dsn, folder) as (process, mark):
            out, err = process.communicate(timeout=60)

            assert (process.returncode, err) == (0, ""), out + err
            assert marked_processes(mark) == []
        listed = client.storage.jobs(state=None, queue=None, kind="file", limit=100)
        rows = client.storage.get([each.id for each in listed])
        left_alone = client.get(other)
    sizes = [row.result["bytes"] for row in rows if isinstance(row.result, dict)]

    assert {row.state for row in rows} == {synk.JobState.COMPLETED}
    assert len(rows) == 12
    assert max(sizes) == 256 * 1024
    assert left_alone is not None
    assert left_alone.state is synk.JobState.AVAILABLE
    assert [line for line in out.splitlines() if line != line.rstrip()] == []
    assert max(map(len, out.splitlines())) < 200
    for shown in ("p50", "p95", "CPU", "KeyError: 'price'", "SIGSEGV", "synk jobs --queue demo-"):
        assert shown in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_ends_the_demo_within_five_seconds(
    dsn: str, folder: Path, number: signal.Signals
) -> None:
    def hangs() -> bool:
        running = client.storage.jobs(
            state=synk.JobState.RUNNING, queue=None, kind="planted", limit=9
        )
        return any(row.name == "hangs_with_child" for row in running)

    with make_client(dsn) as client, demo(dsn, folder) as (process, mark):
        wait_until(hangs, what="the job with a child process to run")
        process.send_signal(number)
        out, err = process.communicate(timeout=5)

        assert (process.returncode, err) == (130, ""), out
        assert marked_processes(mark) == []
        assert synk.JobState.RUNNING not in client.storage.counts()


def test_a_folder_without_files_is_one_line(dsn: str, tmp_path: Path) -> None:
    with demo(dsn, tmp_path) as (process, _):
        _, err = process.communicate(timeout=30)

    assert (process.returncode, len(err.splitlines())) == (2, 1)
    assert "holds no file" in err


def test_a_database_that_is_down_is_one_line(folder: Path) -> None:
    with demo("postgresql://u:secret@127.0.0.1:9/d", folder) as (process, _):
        out, err = process.communicate(timeout=30)

    assert (process.returncode, len(err.splitlines())) == (1, 1)
    assert "secret" not in out + err
