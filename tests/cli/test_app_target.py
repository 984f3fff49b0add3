"""`synk start MODULE:NAME`: where the module is looked for, and what is said of a wrong one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import synk
from support.supervising import DEADLINE_S, ended

APP = """
import os, synk
from dataclasses import dataclass

@dataclass
class Hello(synk.JobArgs, kind="hello"):
    pass

@synk.worker
def hello(job: synk.Job[Hello]) -> str:
    return "hello"

client = synk.Client(
    storage=synk.PostgresStorage(os.environ["SYNK_DATABASE_URL"]),
    queues={"default": synk.QueueConfig()},
    workers=[hello],
    processes=1,
)
"""
SYNK = str(Path(sys.executable).with_name("synk"))
INSERT = "import app; print(app.client.insert('x', app.Hello()))"


def environment(dsn: str) -> dict[str, str]:
    return {**os.environ, "SYNK_DATABASE_URL": dsn, "PYTHONUNBUFFERED": "1"}


def start(dsn: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SYNK, "start", *arguments],
        cwd=folder, env=environment(dsn), capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def job_of(dsn: str, folder: Path) -> int:
    """Inserts a job as the app's producers do."""
    done = subprocess.run(
        [sys.executable, "-c", INSERT],
        cwd=folder, env=environment(dsn), capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def served(dsn: str, *arguments: str, folder: Path, job_id: int) -> synk.JobRow:
    process = subprocess.Popen(
        [SYNK, "start", *arguments],
        cwd=folder, env=environment(dsn), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with synk.Client(storage=synk.PostgresStorage(dsn)) as client:
            return ended(client, job_id)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("app:clent", "did you mean app:client?"),
        ("app:hello", "is no synk.Client but of type FunctionWorker"),
        ("app:Hello.kind", "is no synk.Client but of type str"),
        ("ap:client", "there is no module ap in "),
        ("app.jobs:client", "there is no module app.jobs in "),
        ("broken:client", "cannot import broken: ModuleNotFoundError: No module named 'nowhere'"),
        ("leaving:client", "cannot import leaving: SystemExit: 3"),
        ("signal:client", "is another module than your "),
    ],
)
def test_a_wrong_target_is_one_line_that_says_what_is_meant(
    dsn: str, folder: Path, target: str, said: str
) -> None:
    (folder / "broken.py").write_text("import nowhere")
    (folder / "leaving.py").write_text("raise SystemExit(3)")
    (folder / "signal.py").write_text(APP)

    done = start(dsn, target, folder=folder)

    assert done.returncode != 0
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_missing_module_says_where_it_was_looked_for(dsn: str, folder: Path) -> None:
    done = start(dsn, "nope:client", folder=folder)

    assert str(folder) in done.stderr
    assert "--app-dir" in done.stderr


def test_the_app_may_be_in_another_folder_beside_files_named_as_the_standard_librarys(
    dsn: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    job_id = job_of(dsn, folder)
    for name in ("queue", "signal", "logging", "types", "select"):
        (folder / f"{name}.py").write_text("raise RuntimeError('not the one that is meant')")
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    row = served(dsn, "app:client", "--app-dir", str(folder), folder=elsewhere, job_id=job_id)

    assert row.result == "hello"
    wrong = start(dsn, "app:client", "--app-dir", str(folder / "no"), folder=elsewhere)
    assert "is no folder" in wrong.stderr
