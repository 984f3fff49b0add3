"""Draining, signals, kills of the supervisor itself, and trouble with the database."""

from __future__ import annotations

import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

import synk
from support.jobs import handlers
from support.supervising import (
    DEADLINE_S,
    SupervisorProcess,
    ended,
    is_running,
    make_client,
    supervised,
    wait_until,
)
from synk import JobState


def running_job(client: synk.Client, log: Path, sleep_s: float) -> int:
    job_id = client.insert("slow", handlers.Write(str(log), "begun", sleep_s=sleep_s))
    wait_until(log.exists, what="the job to begin")
    return job_id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_jobs_finish_and_gives_the_others_back(
    dsn: str, tmp_path: Path, number: signal.Signals
) -> None:
    client = make_client(dsn)
    with SupervisorProcess(dsn, "{'processes': 1}") as supervisor:
        running = running_job(client, tmp_path / "log", sleep_s=1.0)
        waiting = [client.insert("w", handlers.Write(str(tmp_path / "log"))) for _ in range(5)]

        supervisor.signal(number)
        code, out, err = supervisor.wait()

    assert (code, out.strip()) == (0, "returned"), err
    row = client.get(running)
    assert row is not None
    assert (row.state, row.attempt) == (JobState.COMPLETED, 1)
    for row in client.storage.get(waiting):
        assert row.state is JobState.AVAILABLE
        assert row.attempt == row.uncounted
    assert supervisor.processes() == []
    client.close()


def test_a_signal_to_the_whole_tree_does_not_disturb_running_jobs(dsn: str, tmp_path: Path) -> None:
    client = make_client(dsn)
    with SupervisorProcess(dsn) as supervisor:
        running = running_job(client, tmp_path / "log", sleep_s=1.0)

        for pid in [*supervisor.processes(), supervisor.process.pid]:
            os.kill(pid, signal.SIGTERM)
        code, _, err = supervisor.wait()

    assert code == 0, err
    assert ended(client, running).attempt == 1
    client.close()


def test_a_second_signal_kills_running_jobs_which_go_back_uncharged(
    dsn: str, tmp_path: Path
) -> None:
    client = make_client(dsn)
    with SupervisorProcess(dsn) as supervisor:
        running = running_job(client, tmp_path / "log", sleep_s=1000)
        supervisor.signal(signal.SIGTERM)
        wait_until(lambda: "draining" in _stderr_so_far(supervisor))

        supervisor.signal(signal.SIGTERM)
        # Sooner than by the drain's own end.
        code, _, err = supervisor.wait(20)

    assert code == 0, err
    row = client.get(running)
    assert row is not None
    assert (row.state, row.attempt, row.uncounted) == (JobState.AVAILABLE, 1, 1)
    assert row.errors == []
    assert supervisor.processes() == []
    client.close()


def _stderr_so_far(supervisor: SupervisorProcess) -> str:
    assert supervisor.process.stderr is not None
    return supervisor.process.stderr.readline()


def test_a_drain_has_an_end(dsn: str, tmp_path: Path) -> None:
    client = make_client(dsn)
    options = "{'drain_timeout': __import__('datetime').timedelta(seconds=0.3)}"
    with SupervisorProcess(dsn, options) as supervisor:
        running = running_job(client, tmp_path / "log", sleep_s=1000)

        supervisor.signal(signal.SIGTERM)
        code, _, err = supervisor.wait()

    assert code == 0, err
    row = client.get(running)
    assert row is not None
    assert (row.state, row.uncounted) == (JobState.AVAILABLE, 1)
    client.close()


def test_a_job_can_shut_its_own_supervisor_down(dsn: str) -> None:
    script = """
import sys
import synk
from support.jobs import handlers
from dataclasses import dataclass
from support.supervising import make_client

@dataclass
class Stop(synk.JobArgs, kind="stop"):
    pass

@synk.worker
def stop(job: synk.Job[Stop]) -> None:
    client.shutdown()

client = make_client(sys.argv[1], workers=[stop])
if __name__ == "__main__":
    client.insert("stop", Stop())
    print(client.id, flush=True)
    client.start()
    print("returned", flush=True)
"""
    path = _script(dsn, script)
    with path as supervisor:
        code, out, err = supervisor.wait()

    assert (code, out.strip()) == (0, "returned"), err


def _script(dsn: str, text: str) -> SupervisorProcess:
    """The text as a script in a file: its workers must be able to import it."""
    import tempfile

    folder = Path(tempfile.mkdtemp())
    file = folder / "app.py"
    file.write_text(text)
    run = f"import runpy, sys; sys.argv[0] = {str(file)!r}"
    return SupervisorProcess(dsn, script=f"{run}\n{_EXEC.format(file=str(file))}")


_EXEC = """
import os
os.execv(sys.executable, [sys.executable, {file!r}, *sys.argv[1:]])
"""


def test_a_script_whose_handlers_live_elsewhere_needs_no_guard(dsn: str) -> None:
    script = """
import sys, threading
from support.supervising import make_client, ended
from support.jobs import handlers
client = make_client(sys.argv[1])
print(client.id, flush=True)
job = client.insert("x", handlers.Noop())
threading.Thread(target=lambda: (ended(client, job), client.shutdown())).start()
client.start()
print("returned", flush=True)
"""
    with _script(dsn, script) as supervisor:
        code, out, err = supervisor.wait()

    assert (code, out.strip()) == (0, "returned"), err


def test_a_client_runs_again_after_a_shutdown(dsn: str) -> None:
    client = make_client(dsn)
    first_id = client.id
    for _ in range(2):
        thread = threading.Thread(target=client.start)
        thread.start()
        row = ended(client, client.insert("x", handlers.Noop()))
        client.shutdown()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        assert row.state is JobState.COMPLETED
    assert client.id != first_id
    client.close()


def test_a_client_that_runs_cannot_be_started_twice(dsn: str) -> None:
    with supervised(dsn) as client:
        ended(client, client.insert("x", handlers.Noop()))

        with pytest.raises(synk.ConfigurationError, match="runs already"):
            client.start()


def test_a_client_without_queues_only_inserts(dsn: str) -> None:
    with synk.Client(storage=synk.PostgresStorage(dsn)) as client:
        assert client.insert("x", handlers.Noop()) > 0
        with pytest.raises(synk.ConfigurationError, match="queues"):
            client.start()


def test_broken_connections_lose_and_double_nothing(
    dsn: str, tmp_path: Path, connection: psycopg.Connection
) -> None:
    log = tmp_path / "log"
    with supervised(dsn) as client:
        jobs = [("w", handlers.Write(str(log), str(n), sleep_s=0.002)) for n in range(600)]
        client.insert_many(jobs)
        for count in (50, 200, 400):
            wait_until(lambda count=count: log.exists() and len(log.read_text().split()) > count)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

        def all_done() -> bool:
            query = "SELECT count(*) FROM synk.job WHERE state = 'completed'"
            row = connection.execute(query).fetchone()
            return row is not None and row[0] == 600

        wait_until(all_done, what="all jobs to complete")

    executed = [int(line) for line in log.read_text().split()]
    assert sorted(set(executed)) == list(range(600))
    assert len(executed) == 600


def test_a_supervisor_without_a_database_says_so_in_one_line(tmp_path: Path) -> None:
    client = make_client("postgresql://nobody@127.0.0.1:9/none?connect_timeout=2")

    with pytest.raises(synk.StorageUnavailable, match=r"none at 127\.0\.0\.1:9"):
        client.start()


def test_a_supervisor_refuses_an_empty_database(empty_dsn: str) -> None:
    client = make_client(empty_dsn)

    with pytest.raises(synk.SchemaMismatch, match="synk migrate"):
        client.start()
    client.close()


def test_workers_load_no_database_driver_of_their_own() -> None:
    code = (
        "import sys, synk.runtime.worker.main; unwanted = ('psycopg', 'rich', 'typer', 'ulid');"
        "print([name for name in sys.modules if name.startswith(unwanted)])"
    )
    import subprocess

    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )

    assert done.stdout.strip() == "[]"


def test_a_shutdown_with_a_timeout_kills_after_it(dsn: str, tmp_path: Path) -> None:
    client = make_client(dsn)
    thread = threading.Thread(target=client.start)
    thread.start()
    running = running_job(client, tmp_path / "log", sleep_s=1000)
    assert is_running(client, running)

    client.shutdown(timedelta(seconds=0.2))
    thread.join(20)

    assert not thread.is_alive()
    row = client.get(running)
    assert row is not None
    assert row.state is JobState.AVAILABLE
    client.close()
