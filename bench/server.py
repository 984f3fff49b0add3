"""A fresh server for a benchmark, and a supervisor that serves it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

import synk
from machine import CPUS
from synk.storage.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

SETTINGS: Final = ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size")


@contextmanager
def embedded_server() -> Generator[str]:
    """Gives the DSN of a new embedded server with PostgreSQL's defaults; it goes afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="synk-bench-"))
    folder.chmod(0o755)  # the server may run as another user
    try:
        with EmbeddedServer(folder / "server") as server:
            yield server.start()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh_schema(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS synk CASCADE")
    synk.PostgresStorage(dsn).migrate()


def value(connection: psycopg.Connection[Any], text: str) -> Any:
    row = connection.execute(text.encode()).fetchone()
    return None if row is None else row[0]


def server_facts(dsn: str) -> dict[str, object]:
    """The server's version and the settings that matter to these figures."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        names = ("server_version", *SETTINGS)
        return {name: value(connection, f"SHOW {name}") for name in names}


@contextmanager
def serving(
    dsn: str, variables: Mapping[str, str] | None = None, *, processes: int = CPUS
) -> Generator[None]:
    """Serves the jobs of `jobs.py` with `synk start`, in a process of its own."""
    given = {"SYNK_BENCH_DSN": dsn, "SYNK_BENCH_PROCESSES": str(processes)}
    command = [sys.executable, "-m", "synk", "start", "jobs:client"]
    with tempfile.TemporaryFile() as log:
        supervisor = subprocess.Popen(
            command,
            cwd=Path(__file__).parent,
            env={**os.environ, **given, **(variables or {})},
            stdout=log,
            stderr=log,
        )
        try:
            yield
            if supervisor.poll() is not None:
                log.seek(0)
                raise SystemExit(f"the supervisor has ended: {log.read().decode()[-2000:]}")
        finally:
            supervisor.terminate()
            supervisor.wait()
