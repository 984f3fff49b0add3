"""How a supervisor's processes are made, what they get of it, and what they leave behind."""

from __future__ import annotations

import ast
import contextlib
import signal
from pathlib import Path

import pytest

import synk
from support.acting import workers_of
from support.jobs import handlers, tasks
from support.starting import APP, StartedApp
from support.supervising import (
    SupervisorProcess,
    ended,
    left_in_shared_memory,
    make_client,
    wait_until,
)
from synk import Cause
from synk.config import EngineConfig
from synk.runtime.ipc import linux

SOURCE = Path(synk.__file__).parent


def crash(client: synk.Client) -> None:
    """Has a worker process end in the middle of a job."""
    options = synk.InsertOptions(max_retries=0)
    row = ended(client, client.insert("x", handlers.Misbehave("os_exit"), options))
    assert row.errors[0].cause is Cause.EXIT


# -- forks ----------------------------------------------------------------------------------------

FORKERS = {"runtime/worker/forks.py", "runtime/forkserver/fork_safety.py", "cli/pid1.py"}
"""What forks: the one before it has workers, the other before it is anything at all."""

HOOK = """
import os, pathlib
from support.jobs import handlers

def note():
    threads = len(list(pathlib.Path("/proc/self/task").iterdir()))
    handlers.note(os.environ["SYNK_TEST_LOG"], f"{os.getpid()} {threads}")

os.register_at_fork(before=note)
"""


def test_s6_only_what_has_no_threads_yet_forks_at_all() -> None:
    forkers: set[str] = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = {"fork", "forkpty", "preexec_fn"}
            match node:
                case ast.Attribute(attr=name) if name in names:
                    forkers.add(str(file.relative_to(SOURCE)))
                case ast.keyword(arg="preexec_fn"):
                    forkers.add(str(file.relative_to(SOURCE)))
                case _:
                    pass

    assert forkers == FORKERS


def test_s6_a_fork_of_the_supervisor_is_no_start_method() -> None:
    with pytest.raises(synk.ConfigurationError, match="start_method"):
        EngineConfig(processes=1, start_method="fork")  # pyright: ignore[reportArgumentType]


def test_s6_every_fork_of_a_running_supervisor_is_one_of_its_fork_server_without_threads(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "forks"
    (tmp_path / "hook.py").write_text(HOOK)
    monkeypatch.setenv("SYNK_TEST_LOG", str(log))
    # Both have the hook: the supervisor, and the fork server that preloads it.
    app = "import hook\n" + APP.replace("processes=1", "processes=2, preload=['hook']")
    with (
        make_client(dsn, workers=tasks.WORKERS) as client,
        StartedApp(tmp_path, dsn, app=app) as started,
    ):
        for _ in range(5):
            crash(client)
        (fork_server,) = linux.children(started.process.pid)
        threads = len(list(Path(f"/proc/{started.process.pid}/task").iterdir()))
        started.signal(signal.SIGTERM)
        assert started.wait() == 0, started.log

    assert threads > 5
    forks = log.read_text().splitlines()
    assert len(forks) > 5
    assert set(forks) == {f"{fork_server} 1"}


# -- descriptors ----------------------------------------------------------------------------------

PROGRAM = """
import os, socket, sys
import psycopg
from support.jobs import tasks
from support.supervising import make_client

if __name__ == "__main__":
    kept = [socket.create_server(("127.0.0.1", 0)), psycopg.connect(sys.argv[1])]
    kept.append(open("/dev/full", "w"))
    for each in kept:
        # As no program does by accident: what it starts may have them.
        os.set_inheritable(each.fileno(), True)
    client = make_client(sys.argv[1], workers=tasks.WORKERS, **eval(sys.argv[2]))
    print(client.id, flush=True)
    client.start()
"""


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_s7_workers_have_their_own_descriptors_and_none_of_the_program(
    dsn: str, start_method: str
) -> None:
    options = f"{{'start_method': '{start_method}'}}"
    with (
        make_client(dsn, workers=tasks.WORKERS) as client,
        SupervisorProcess(dsn, options, script=PROGRAM) as supervisor,
    ):
        # Of a crash too: what replaces a worker is made while others are there.
        crash(client)
        ended(client, client.insert("x", tasks.Task()))
        (fork_server,) = linux.children(supervisor.process.pid)
        workers = wait_until(lambda: len(found := workers_of(fork_server)) == 2 and found)
        seen = [wait_until(lambda pid=pid: files_at_work(pid)) for pid in workers]
        of_fork_server = open_files(fork_server)

    for files in seen:
        channel, permits, page, output = (files.pop(number) for number in range(900, 904))
        assert [files.pop(number) for number in range(3)] == ["/dev/null", output, output]
        assert channel.startswith("socket:")
        assert permits.startswith("pipe:")
        assert page.startswith("/memfd:synk-status-page")
        # The mapping of the page has one of its own, and the meter of memory has its file; libffi,
        # which ctypes loads, keeps its own library open from some version on.
        names = {name.rpartition("/")[2] for name in files.values()}
        assert {name for name in names if not name.startswith("libffi.so.")} == {
            page.rpartition("/")[2],
            "clear_refs",
            Path.cwd().name,  # kept, since it may be removed while a job runs
        }
    assert "/dev/full" not in of_fork_server.values()
    # To its supervisor, and to the process that waits for a slot.
    assert sum(name.startswith("socket:") for name in of_fork_server.values()) <= 2


def files_at_work(worker: int) -> dict[int, str] | None:
    """Returns its open files, once it is ready and does not count them itself at the moment."""
    files = open_files(worker)
    names = {name.rpartition("/")[2] for name in files.values()}
    return files if "clear_refs" in names and "fd" not in names else None


def open_files(pid: int) -> dict[int, str]:
    """Returns what the descriptors of a process lead to."""
    found: dict[int, str] = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[int(link.name)] = str(link.readlink())
    return found


# -- what is left ---------------------------------------------------------------------------------


def test_s13_there_is_no_resource_tracker_and_nothing_in_shared_memory(
    dsn: str, tmp_path: Path
) -> None:
    before = left_in_shared_memory()
    app = APP.replace("processes=1", "processes=2")
    with (
        make_client(dsn, workers=tasks.WORKERS) as client,
        StartedApp(tmp_path, dsn, app=app) as started,
    ):
        options = synk.InsertOptions(max_retries=0)
        jobs = [("x", handlers.Misbehave("os_exit"), options)] * 60
        for job_id in client.insert_many(jobs):
            ended(client, job_id)
        # The supervisor, its fork server and both workers, none of which is about to be replaced.
        wait_until(lambda: len(started.processes()) >= 4)
        commands = [command_of(pid) for pid in started.processes()]
        mapped = [maps_of(pid) for pid in started.processes()]
        started.signal(signal.SIGTERM)

        assert started.wait() == 0, started.log
        assert started.processes() == []
    assert not [command for command in commands if "tracker" in command]
    assert not [maps for maps in mapped if "/dev/shm/" in maps]  # noqa: S108 - a look
    wait_until(lambda: left_in_shared_memory() <= before)
    assert "leaked" not in started.log


def command_of(pid: int) -> str:
    return text_of(Path(f"/proc/{pid}/cmdline"))


def maps_of(pid: int) -> str:
    return text_of(Path(f"/proc/{pid}/maps"))


def text_of(file: Path) -> str:
    """Returns what a file of /proc says; empty if its process is gone."""
    try:
        return file.read_text()
    except OSError:
        return ""
