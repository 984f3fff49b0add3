"""What workers import and how they start: refused, reported, repeated ever more rarely."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import synk
from support.acting import acting, both_workers_of, error_of, insert, run
from support.failing_starts import module_of, never_tried, problem_at_start
from support.jobs import faults
from support.jobs.actors import WORKERS
from support.supervising import (
    SupervisorProcess,
    ended,
    make_client,
    program_env,
    supervised,
    wait_until,
)
from synk import JobState

LEAVES_A_THREAD = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True, name="poller").start()
"""
LEAVES_A_SOCKET = """
import socket
kept = socket.socket()
"""


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("leaves_a_thread", LEAVES_A_THREAD, "the thread 'poller'"),
        ("leaves_a_socket", LEAVES_A_SOCKET, "left a socket open"),
    ],
)
def test_w13_a_module_that_cannot_be_forked_is_refused_by_name(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, shown: str
) -> None:
    module_of(tmp_path, name, text, monkeypatch)
    with make_client(dsn, workers=WORKERS, preload=[name]) as client:
        job_id = insert(client, "nothing")

        problem = problem_at_start(client)

        assert isinstance(problem, synk.WorkerStartError)
        assert f"{name}: " in str(problem)
        assert shown in str(problem)
        assert "start_method='spawn'" in str(problem)
        assert never_tried(client, job_id)


def test_w13_what_a_module_opens_in_each_worker_is_no_matter(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import socket\ndef connect():\n    global kept\n    kept = socket.socket()"
    name = module_of(tmp_path, "opens_late", text, monkeypatch)
    connect = importlib.import_module(name).connect

    with acting(dsn, preload=[name], on_worker_start=connect) as client:
        assert run(client, "nothing").state is JobState.COMPLETED


def test_w13_each_worker_has_random_numbers_of_its_own(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what keeps its state across a fork, as the generator of numpy does, too."""
    text = (
        "import random, sys, types\n"
        "fake = sys.modules['numpy.random'] = types.ModuleType('numpy.random')\n"
        "generator = random.Random(1)\n"
        "fake.seed = lambda: generator.seed()\n"
        "fake.random = lambda: generator.random()\n"
    )
    name = module_of(tmp_path, "like_numpy", text, monkeypatch)
    with acting(dsn, preload=[name], max_jobs=1) as client:
        rows = [run(client, "draw_numbers") for _ in range(6)]

    assert len({row.pid for row in rows}) == 6
    drawn = [number for row in rows if isinstance(row.result, list) for number in row.result]
    assert len(set(map(str, drawn))) == 12


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_w14_an_import_that_fails_only_in_the_child_is_reported_before_any_claim(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_method: str
) -> None:
    text = """
import os, synk
from dataclasses import dataclass
if "SYNK_SUPERVISOR" in os.environ:
    raise ImportError("libmissing.so.3 is not here")

@dataclass
class Mine(synk.JobArgs, kind="mine"):
    pass

@synk.worker
def mine(job: synk.Job[Mine]) -> None:
    pass
"""
    name = module_of(tmp_path, f"only_here_{start_method}", text, monkeypatch)
    module = importlib.import_module(name)
    with make_client(dsn, workers=[module.mine], start_method=start_method) as client:
        job_id = client.insert("x", module.Mine())

        problem = problem_at_start(client)

        assert isinstance(problem, synk.WorkerStartError)
        assert "libmissing.so.3 is not here" in str(problem)
        assert f"{name}.py" in str(problem)
        assert never_tried(client, job_id)


def test_w15_a_script_without_a_guard_gets_an_error_and_starts_no_more_than_one_level(
    dsn: str, tmp_path: Path
) -> None:
    log, file = tmp_path / "log", tmp_path / "app.py"
    file.write_text(f"""
import os, sys, synk
from support.jobs import handlers
from dataclasses import dataclass
from support.supervising import program_env, make_client

handlers.note({str(log)!r}, str(os.getpid()))

@dataclass
class Mine(synk.JobArgs, kind="mine"):
    pass

@synk.worker
def mine(job: synk.Job[Mine]) -> None:
    pass

client = make_client(sys.argv[1], workers=[mine])
client.start()
""")
    done = subprocess.run(
        [sys.executable, str(file), dsn],
        env=program_env(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "put the call under `if __name__ == '__main__':`" in done.stderr
    assert len(log.read_text().split()) == 2


def test_w15_a_job_cannot_start_a_supervisor_in_its_worker(client: synk.Client) -> None:
    error = error_of(run(client, "start_client"))

    assert "ConfigurationError" in error.error
    assert "while a worker process imports this module" in error.error


def test_w22_workers_that_cannot_start_are_tried_a_few_times_and_then_reported(
    dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    client = make_client(dsn, workers=WORKERS)
    job_id = insert(client, "nothing")
    options = (
        "{'workers': __import__('support.jobs.actors', fromlist=['x']).WORKERS,"
        " 'on_worker_start': __import__('support.jobs.faults', fromlist=['x']).exits_at_start}"
    )
    os.environ["SYNK_TEST_LOG"] = str(log)
    try:
        with SupervisorProcess(dsn, options) as supervisor:
            code, out, err = supervisor.wait()
    finally:
        del os.environ["SYNK_TEST_LOG"]

    assert (code, out) == (1, "")
    assert "worker processes cannot be started" in err
    assert 5 <= len(log.read_text().split()) < 10
    assert never_tried(client, job_id)
    client.close()


def test_w22_a_trouble_at_start_that_passes_is_waited_for_ever_more_rarely(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, broken = tmp_path / "log", tmp_path / "broken"
    monkeypatch.setenv("SYNK_TEST_LOG", str(log))
    with acting(dsn, on_worker_start=faults.fails_to_start) as client:
        assert run(client, "nothing").state is JobState.COMPLETED
        broken.touch()
        for pid in both_workers_of(client.id):
            os.kill(pid, signal.SIGKILL)
        job_id = insert(client, "nothing")
        wait_until(lambda: len(log.read_text().split()) >= 2 + 5)

        # Nobody can run it here: it is there for others.
        wait_until(lambda: (row := client.get(job_id)) and row.state is JobState.AVAILABLE)
        broken.unlink()
        row = ended(client, job_id)

    assert (row.state, row.attempt - row.uncounted, row.errors) == (JobState.COMPLETED, 1, [])
    # 0.2 s after the first, then twice as long each time, up to 10 s.
    assert len(log.read_text().split()) < 2 + 5 + 6


NEEDS_A_VARIABLE = """
import os, synk
from dataclasses import dataclass
URL = os.environ["SYNK_TEST_URL"]

@dataclass
class Mine(synk.JobArgs, kind="mine"):
    pass

@synk.worker
def mine(job: synk.Job[Mine]) -> str:
    return URL
"""


MISSES_INSIDE = """
def helper():
    try:
        return os.environ["SYNK_TEST_" + "U" "RL"]
    except KeyError as error:
        raise RuntimeError("not set up") from error
"""


def test_a_module_that_reads_the_environment_is_imported_in_workers(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNK_TEST_URL", "postgresql://here")
    module = importlib.import_module(
        module_of(tmp_path, "reads_env", NEEDS_A_VARIABLE, monkeypatch)
    )
    with supervised(dsn, workers=[module.mine]) as client:
        assert ended(client, client.insert("x", module.Mine())).result == "postgresql://here"


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_a_variable_that_worker_env_keeps_out_is_named_when_an_import_misses_it(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_method: str
) -> None:
    monkeypatch.setenv("SYNK_TEST_URL", "postgresql://here")
    name = module_of(tmp_path, f"misses_env_{start_method}", NEEDS_A_VARIABLE, monkeypatch)
    module = importlib.import_module(name)
    options = {"start_method": start_method, "worker_env": ["PATH"]}
    with make_client(dsn, workers=[module.mine], **options) as client:
        problem = problem_at_start(client)

    assert "KeyError: 'SYNK_TEST_URL'" in str(problem)
    assert "worker_env keeps SYNK_TEST_URL out of the worker processes" in str(problem)


@pytest.mark.parametrize("miss", ['os.environ["SYNK_TEST_URL"]', "helper()"])
def test_a_variable_that_worker_env_keeps_out_is_named_when_a_job_misses_it(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, miss: str
) -> None:
    monkeypatch.setenv("SYNK_TEST_URL", "postgresql://here")
    text = NEEDS_A_VARIABLE.replace('URL = os.environ["SYNK_TEST_URL"]', MISSES_INSIDE)
    name = module_of(
        tmp_path,
        f"misses_late_{len(miss)}",
        text.replace("return URL", f"return {miss}"),
        monkeypatch,
    )
    module = importlib.import_module(name)
    with supervised(dsn, workers=[module.mine], worker_env=["PATH"]) as client:
        row = ended(client, client.insert("x", module.Mine(), synk.InsertOptions(max_retries=0)))

    assert "worker_env keeps SYNK_TEST_URL out of the worker processes" in row.errors[0].trace
