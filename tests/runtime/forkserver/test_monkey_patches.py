"""Programs whose standard library gevent or eventlet has patched."""

from __future__ import annotations

import importlib
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest

import synk
from support.failing_starts import module_of, problem_at_start
from support.small_app import APP, job_of, start
from support.supervising import ended, make_client, supervised, wait_until

PATCH = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import warnings; warnings.simplefilter('ignore');"
    " import eventlet; eventlet.monkey_patch()",
}
WORKER = """
import os, socket, subprocess, threading, time
import synk
from dataclasses import dataclass
from datetime import timedelta
{made}

@dataclass
class Wait(synk.JobArgs, kind="wait"):
    seconds: float
    timeout: float | None = None

class Waiter(synk.Worker[Wait]):
    def timeout(self, job):
        return timedelta(seconds=job.args.timeout) if job.args.timeout else None

    def work(self, job):
        return waited(job)

wait = Waiter()

def waited(job: synk.Job[Wait]) -> object:
    job.progress(1)
    {in_job}
    found = []
    threads = [threading.Thread(target=lambda: (time.sleep(0.05), found.append(1)))
               for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    one, other = socket.socketpair()
    one.send(b"x")
    print("printed")
    time.sleep(job.args.seconds)
    out = subprocess.run(["echo", "child"], capture_output=True, text=True).stdout
    return [len(found), other.recv(1).decode(), out]

def hook():
    {patch}
"""


@pytest.mark.parametrize("library", PATCH)
def test_a_patched_program_inserts_and_is_no_supervisor(
    dsn: str, tmp_path: Path, library: str
) -> None:
    (tmp_path / "app.py").write_text(f"{PATCH[library]}\n{APP}")

    job_id = job_of(dsn, tmp_path)
    done = start(dsn, "app:client", folder=tmp_path)

    assert job_id == 1
    assert done.returncode != 0
    # Before it eventlet may have its own to say of being late.
    last = done.stderr.splitlines()[-1]
    assert f"start='{library}': has patched this process" in last


def module(folder: Path, patch: pytest.MonkeyPatch, library: str, where: str) -> ModuleType:
    does = PATCH[library]
    made = f'if "SYNK_SUPERVISOR" in os.environ:\n    {does}' if where == "module" else ""
    text = WORKER.format(made=made, in_job=does if where == "job" else "pass", patch=does)
    return importlib.import_module(module_of(folder, f"in_{library}_{where}", text, patch))


@pytest.mark.parametrize(
    ("library", "where", "method"),
    [
        ("gevent", "hook", "forkserver"),
        ("eventlet", "hook", "forkserver"),
        ("eventlet", "job", "forkserver"),
        ("gevent", "module", "spawn"),
        ("eventlet", "module", "spawn"),
    ],
)
def test_what_runs_in_a_worker_may_be_patched(
    dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    where: str,
    method: str,
) -> None:
    found = module(tmp_path, monkeypatch, library, where)
    hook = found.hook if where == "hook" else None
    queues = {"default": synk.QueueConfig(job_timeout=timedelta(seconds=10))}
    options = {"on_worker_start": hook, "start_method": method, "queues": queues}
    with supervised(dsn, workers=[found.wait], **options) as client:
        rows = [ended(client, client.insert("x", found.Wait(0.05))) for _ in range(3)]
        once = synk.InsertOptions(max_retries=0)
        endless = client.insert("x", found.Wait(600, timeout=1.0), once)
        late = ended(client, endless)
        cancelled = client.insert("x", found.Wait(600), once)
        wait_until(lambda: (row := client.get(cancelled)) and row.progress)
        client.cancel(cancelled)
        gone = ended(client, cancelled)

    assert [(row.result, row.output) for row in rows] == [([3, "x", "child\n"], "printed\n")] * 3
    assert [error.cause for error in late.errors] == [synk.Cause.TIMEOUT]
    assert gone.cancel_reason == "requested"


@pytest.mark.parametrize("library", PATCH)
@pytest.mark.parametrize("where", ["preload", "module"])
def test_what_patches_the_process_that_forks_is_refused_by_name(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, where: str
) -> None:
    found = module(tmp_path, monkeypatch, library, where)
    name, preload = found.__name__, []
    if where == "preload":
        name = module_of(tmp_path, f"early_{library}", PATCH[library], monkeypatch)
        preload = [name]
    with make_client(dsn, workers=[found.wait], preload=preload) as client:
        problem = str(problem_at_start(client))

    assert f"{name}: its import has patched the standard library ({library}'s" in problem
    assert "patch in on_worker_start, or use start_method='spawn'" in problem
