"""What the chaos shakes: a PostgreSQL server, supervisors as processes, and the network between.

Whatever is started here is ended here, by its process id.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, Self

import psutil
import psycopg
from psycopg import pq

import synk
from chaos import jobs
from chaos.standby import promote
from server import value
from synk.runtime.ipc import linux
from synk.storage.connecting import DSN_VARIABLE
from synk.storage.embedded import EmbeddedServer
from synk.storage.statements import client_id_of
from tested import proxy

SUPERVISORS: Final = 3
STOP_S: Final = 30.0
"""How long a supervisor may take to stop when it is told to and nothing is wrong."""


class Supervisor:
    """A process that runs `synk start`, and the next one in its place when it is gone."""

    def __init__(self, link: proxy.Proxy, folder: Path) -> None:
        self.link = link
        self._folder = folder
        self.starts = 0
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        env = {name: text for name, text in os.environ.items() if not name.startswith("SYNK_")}
        env |= {DSN_VARIABLE: self.link.dsn, jobs.FOLDER: str(self._folder)}
        command = ["-m", "synk", "start", "chaos.jobs:client", "--log-level", "WARNING"]
        with (self._folder / "log").open("ab") as log, (self._folder / "output").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=Path(__file__).parents[1],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def start_again(self) -> None:
        if not self.is_running:
            self.process = self._started()

    def signal(self, number: signal.Signals) -> None:
        if self.is_running:
            self.process.send_signal(number)

    def fork_server(self) -> int | None:
        """The process that makes its workers, if there is one at the moment."""
        found = [pid for pid in linux.children(self.pid) if _name(pid) == "synk-forkserver"]
        return found[0] if found else None

    def tag(self) -> str:
        """Its present id, which all that it started carries; empty: nothing is started."""
        fork_server = self.fork_server()
        return "" if fork_server is None else _tag_of(fork_server)

    def workers(self) -> list[int]:
        fork_server = self.fork_server()
        children = [] if fork_server is None else linux.children(fork_server)
        return [pid for pid in children if _name(pid).startswith("synk-worker")]

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()


class Rig:
    """All of it, in a folder that goes afterwards."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="synk-chaos-"))
        self.folder.chmod(0o755)  # the server may run as another user
        self._servers = 0
        self.server = self._new_server()
        self.standby = self._new_server()
        self.supervisors: list[Supervisor] = []
        self.links: list[proxy.Proxy] = []

    def __enter__(self) -> Self:
        try:
            self.dsn = self.server.start()
            storage = synk.PostgresStorage(self.dsn)
            storage.migrate()
            storage.close()
            for _ in range(SUPERVISORS):
                self.supervisors.append(Supervisor(self.new_link(), self.folder))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for supervisor in self.supervisors:
            supervisor.kill()
        for link in self.links:
            link.go_down()
            link.flow()
        with contextlib.suppress(psycopg.Error, synk.SynkError):
            self.server.start()
            for owner in self.owners():
                linux.kill_tagged(owner)
        # At once, whatever it is in the middle of: nobody wants its data.
        for server in (self.server, self.standby):
            server.stop("immediate")
            server.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _new_server(self) -> EmbeddedServer:
        self._servers += 1
        return EmbeddedServer(self.folder / f"server-{self._servers}")

    def new_link(self) -> proxy.Proxy:
        self.links.append(proxy.Proxy(self.dsn))
        return self.links[-1]

    def wait_for_workers(self) -> None:
        """Waits until each supervisor has made its workers, for a while at the most."""
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline and not all(each.workers() for each in self.supervisors):
            time.sleep(0.05)

    def fail_over(self) -> None:
        """Ends the server for good; everything leads to the standby from now on."""
        gone, self.server = self.server, self.standby
        gone.stop("immediate")
        promote(self.server)
        self.dsn = self.server.conninfo
        for link in self.links:
            link.lead_to(self.dsn)
        self.standby = self._new_server()
        gone.release()
        shutil.rmtree(gone.folder)

    def owners(self) -> dict[str, int]:
        """Returns all supervisors that there ever were, by their ids, with their pids."""
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute("SELECT id, pid FROM synk.client").fetchall()
        return {client_id_of(row[0]): row[1] for row in rows}

    def declared_dead(self) -> int:
        """Returns how many of them others have declared dead."""
        with psycopg.connect(self.dsn) as connection:
            dead = "SELECT count(*) FROM synk.client WHERE dead_at IS NOT NULL"
            return value(connection, dead)

    def accepts_connections(self) -> bool:
        return pq.PGconn.ping(self.dsn.encode()) == pq.Ping.OK

    def backends(self) -> list[int]:
        """The server's processes that serve connections."""
        server = self.server.pid
        if server is None:
            return []
        found: list[int] = []
        for process in psutil.Process(server).children():
            with contextlib.suppress(psutil.Error):
                if "[local]" in " ".join(process.cmdline()):
                    found.append(process.pid)
        return found

    def stop_all(self) -> list[str]:
        """Tells all supervisors to stop; returns what is wrong with how they did."""
        running = [each for each in self.supervisors if each.is_running]
        for supervisor in running:
            supervisor.signal(signal.SIGTERM)
        return [problem for each in running if (problem := _problem_at_the_end(each.process))]


def _problem_at_the_end(process: subprocess.Popen[bytes]) -> str:
    try:
        status = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        return f"supervisor {process.pid} did not stop within {STOP_S:g} s"
    return "" if status == 0 else f"supervisor {process.pid} stopped with status {status}"


def _tag_of(pid: int) -> str:
    try:
        environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return ""
    tags = [pair.removeprefix(f"{linux.TAG}=") for pair in environment if linux.TAG in pair]
    return tags[0] if tags else ""


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
