"""A real PgBouncer in transaction mode before the tests' server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from support.supervising import wait_until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

_SETTINGS = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
max_client_conn = 200
default_pool_size = 10
unix_socket_dir =
logfile = {folder}/log
pidfile = {folder}/pid
"""


@contextmanager
def bouncing(dsn: str) -> Iterator[str]:
    """Gives a DSN that leads to the database of *dsn* through a PgBouncer."""
    assert PROGRAM is not None
    folder = Path(tempfile.mkdtemp(prefix="synk-bouncer-"))
    given = conninfo_to_dict(dsn)
    parts = {name: given[name] for name in ("host", "port", "user", "password") if name in given}
    port = _free_port()
    settings = folder / "pgbouncer.ini"
    server = " ".join(f"{name}={value}" for name, value in parts.items())
    settings.write_text(_SETTINGS.format(server=server, port=port, folder=folder))
    user = _user(str(given.get("host", "")))
    if user is not None:
        for path in (folder, settings):
            shutil.chown(path, user)
    process = subprocess.Popen(
        [PROGRAM, str(settings)],
        user=user,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        through = make_conninfo(
            host="127.0.0.1", port=port, user=given.get("user"), dbname=given["dbname"]
        )
        wait_until(lambda: _answers(through), what="PgBouncer to answer")
        yield through
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def _user(host: str) -> int | str | None:
    """Returns whom to run it as: it refuses to be root, and must reach the server's socket."""
    if os.geteuid() != 0:
        return None
    owner = Path(host).stat().st_uid if host.startswith("/") else 0
    return owner or "nobody"


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
