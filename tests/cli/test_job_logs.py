"""What a job logs under `synk start`, and under a program of one's own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import synk
from support.commands import ENV
from support.supervising import DEADLINE_S, ended, make_client

APP = """
import logging, os, sys, synk
from dataclasses import dataclass
{configured}
log = logging.getLogger("app.jobs")

@dataclass
class Tell(synk.JobArgs, kind="tell"):
    own: bool = False

@synk.worker
def tell(job: synk.Job[Tell]) -> None:
    log.debug("at debug")
    log.info("at info %s", job.id)
    log.warning("with fields", extra={{"job_id": "mine", "kind": "own", "other": 1}})

client = synk.Client(storage=synk.PostgresStorage(), queues={{"default": synk.QueueConfig()}},
                     workers=[tell], processes=1, start_method=os.environ["SYNK_TEST_METHOD"])
{started}
"""
OWN_SCRIPT = """
if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="mine %(message)s")
    client.start()
"""
QUIET_SCRIPT = """
if __name__ == "__main__":
    client.start()
"""
LIBRARY = 'logging.getLogger("app").addHandler(logging.NullHandler())'
BASIC = 'logging.basicConfig(level=logging.DEBUG, format="OWN %(job_id)s %(kind)s %(message)s")'
BELOW = """
handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("BELOW %(message)s"))
logging.getLogger("app").addHandler(handler)
logging.getLogger("app").setLevel(logging.INFO)
"""


def told(
    dsn: str,
    folder: Path,
    configured: str = "",
    *arguments: str,
    script: str = "",
    method: str = "forkserver",
) -> tuple[int, list[str], str]:
    """Runs one job; returns its id, what of the log is of it, and its output."""
    (folder / "app.py").write_text(APP.format(configured=configured, started=script))
    command = ["app.py"] if script else ["-m", "synk", "start", "app:client", *arguments]
    with make_client(dsn) as client:
        connection = client.storage.connector
        with connection.connection() as own:
            row = own.execute(
                "INSERT INTO synk.job (kind, name, args) VALUES ('tell', 'x', '{}') RETURNING id"
            ).fetchone()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, stderr=subprocess.PIPE, text=True,
            env={**ENV, "SYNK_DATABASE_URL": dsn, "SYNK_TEST_METHOD": method},
        )  # fmt: skip
        try:
            job = ended(client, row[0])
        finally:
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=DEADLINE_S)
    assert job.state is synk.JobState.COMPLETED, job.errors
    lines = [line for line in log.splitlines() if re.search("at (debug|info)|with fields", line)]
    return row[0], lines, job.output


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("configured", ["", LIBRARY])
def test_a_log_record_of_a_job_is_shown_with_its_id_and_kind(
    dsn: str, tmp_path: Path, configured: str, method: str
) -> None:
    job_id, lines, output = told(dsn, tmp_path, configured, method=method)

    assert len(lines) == 2
    assert lines[0].endswith(f" INFO job {job_id} (tell) app.jobs: at info {job_id}")
    assert lines[1].endswith(" WARNING job mine (own) app.jobs: with fields")
    assert output.splitlines() == lines


def test_the_level_of_the_supervisor_is_that_of_its_jobs(dsn: str, tmp_path: Path) -> None:
    _, debug, _ = told(dsn, tmp_path, "", "--log-level", "debug")
    _, warning, _ = told(dsn, tmp_path, "", "--log-level", "warning")

    assert [line.split()[2] for line in debug] == ["DEBUG", "INFO", "WARNING"]
    assert [line.split()[2] for line in warning] == ["WARNING"]


def test_what_the_jobs_module_configures_holds_and_nothing_is_shown_twice(
    dsn: str, tmp_path: Path
) -> None:
    job_id, lines, _ = told(dsn, tmp_path, BASIC)
    _, below, _ = told(dsn, tmp_path, BELOW)

    assert lines == [
        f"OWN {job_id} tell at debug",
        f"OWN {job_id} tell at info {job_id}",
        "OWN mine own with fields",
    ]
    assert [line.split()[0] for line in below] == ["BELOW"] * 2


def test_a_program_that_configures_logging_sees_its_jobs_logs(dsn: str, tmp_path: Path) -> None:
    job_id, lines, _ = told(dsn, tmp_path, script=OWN_SCRIPT)
    _, quiet, _ = told(dsn, tmp_path, script=QUIET_SCRIPT)

    assert [line.split()[2] for line in lines] == ["INFO", "WARNING"]
    assert f"job {job_id} (tell)" in lines[0]
    assert quiet == ["with fields"]
