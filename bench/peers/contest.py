"""Runs contestants, each as a program of its own on a database or broker of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from figures import FLOOR, SYNK
from machine import CPUS
from peers.contract import URL_VARIABLE
from peers.settings import PEERS, Broker, Setup

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

FOLDER: Final = Path(__file__).parent
CACHE: Final = FOLDER.parent / ".cache" / "peers"
"""The environment that `setup` makes."""

REDIS: Final = "redis-server"

PATIENCE_S: Final = 180.0
"""Beyond the time that a run may take; one that takes longer is no figure but a fault."""

FLOORS: Final = {
    "burn": Setup(script="on_bare", package="", broker=Broker.NONE),
    "stamp": Setup("on_notify", package="", broker=Broker.POSTGRES, settings={"claims": True}),
}
"""By task."""

NOTIFICATION: Final = "a notification"
"""The part of the floor of "stamp" that keeps nothing from being done twice, or never."""

OURS: Final = {
    SYNK: Setup(script="on_synk", package="synk", broker=Broker.POSTGRES),
    NOTIFICATION: Setup(script="on_notify", package="", broker=Broker.POSTGRES),
}
"""By name; like the floors they run in this environment."""


@dataclass(frozen=True)
class Run:
    """What is measured."""

    task: str
    jobs: int
    seconds: float
    """The longest that the jobs may take; what is done until then counts."""
    argument: float = 0.0
    """Of the task: milliseconds of CPU time."""


@dataclass
class Contest:
    """The contestants that can run here on the server *dsn*, and why others cannot."""

    dsn: str
    missing: dict[str, str] = field(default_factory=dict[str, str])

    def available(self, wanted: Sequence[str]) -> list[str]:
        """Those of the *wanted* peers that are here; the others are noted as missing."""
        found: list[str] = []
        versions = installed_versions()
        for name in wanted:
            peer = PEERS[name]
            if peer.package not in versions:
                self.missing[name] = "not installed: run bench/peers/setup"
            elif peer.broker is Broker.REDIS and shutil.which(REDIS) is None:
                self.missing[name] = "no redis-server: apt-get install redis-server"
            else:
                found.append(name)
        return found

    def measure(self, name: str, run: Run) -> dict[str, Any] | None:
        """One run of one contestant; None: it has failed, and is noted as missing."""
        setup = setup_of(name, run.task)
        python = str(CACHE / "bin" / "python") if name in PEERS else sys.executable
        with tempfile.TemporaryDirectory(prefix="synk-bench-") as folder, self._store(setup) as url:
            command = [python, "-m", f"peers.{setup.script}"]
            command += _arguments(setup, run, url, folder)
            try:
                return self._answer(name, *_said(command, url, run.seconds + PATIENCE_S))
            except subprocess.TimeoutExpired:
                self.missing[name] = f"took longer than {run.seconds + PATIENCE_S:g} s"
                return None

    def _answer(self, name: str, code: int, said: str, errors: str) -> dict[str, Any] | None:
        if code != 0:
            lines = errors.strip().splitlines() or ["no word"]
            self.missing[name] = f"failed: {lines[-1][-300:]}"
            if os.environ.get("SYNK_BENCH_DEBUG"):
                print(errors, file=sys.stderr)
            return None
        found = json.loads(said.splitlines()[-1])
        if found.get("done") == 0 or found.get("latencies_ms") == []:
            self.missing[name] = "no job began in time"
            return None
        return found

    @contextmanager
    def _store(self, setup: Setup) -> Generator[str]:
        if setup.broker is Broker.POSTGRES:
            with fresh_database(self.dsn) as dsn:
                yield _url(dsn) if setup.wants_url else dsn
        elif setup.broker is Broker.REDIS:
            with redis_server() as port:
                yield f"redis://127.0.0.1:{port}/0"
        else:
            yield ""

    def notes(self) -> list[str]:
        return [f"without {name}: {why}" for name, why in self.missing.items()]


def _said(command: list[str], url: str, seconds: float) -> tuple[int, str, str]:
    """Runs *command* in a session of its own; gives its exit code, output and errors.

    Whatever it has started and left behind is killed.
    """
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent), URL_VARIABLE: url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, errors = process.communicate(timeout=seconds)
        return process.returncode, said, errors
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def setup_of(name: str, task: str) -> Setup:
    if name == FLOOR:
        return FLOORS[task]
    return OURS.get(name) or PEERS[name]


def _arguments(setup: Setup, run: Run, url: str, folder: str) -> list[str]:
    given = {
        "url": url,
        "folder": folder,
        "settings": json.dumps(setup.settings_for(run.task)),
        "task": run.task,
        "argument": run.argument,
        "jobs": run.jobs,
        "seconds": run.seconds,
        "cpus": CPUS,
    }
    return ["measure", *(f"--{name}={given_to}" for name, given_to in given.items())]


def _url(dsn: str) -> str:
    """The same as a URL, for drivers that take nothing else."""
    parts = conninfo_to_dict(dsn)
    host = quote(str(parts["host"]), safe="")
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={host}&port={parts['port']}"


@contextmanager
def fresh_database(dsn: str) -> Generator[str]:
    """Gives the DSN of a new database on the server; it goes afterwards."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield make_conninfo(dsn, dbname=name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def redis_server() -> Generator[int]:
    """Gives the port of a new Redis on loopback that writes nothing to disk."""
    with tempfile.TemporaryDirectory(prefix="synk-bench-redis-") as folder:
        port = _free_port()
        options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "daemonize": "no"}
        command = [REDIS]
        for name, given in options.items():
            command += [f"--{name}", str(given)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait_for_port(port)
            yield port
        finally:
            server.terminate()
            server.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def installed_versions() -> dict[str, str]:
    """Of the packages in the peers' environment; empty: it has not been made."""
    python = CACHE / "bin" / "python"
    if not python.exists():
        return {}
    ask = (
        "import json; from importlib.metadata import distributions as d;"
        "print(json.dumps({each.metadata['Name'].lower(): each.version for each in d()}))"
    )
    answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)
