"""A standby for the server of the chaos, which has all that the server has confirmed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import pq

from server import value
from synk.storage.embedded_host import make_private, reachable_binaries, server_user

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from synk.storage.embedded import EmbeddedServer

LEVEL_S: Final = 30.0
"""How long a standby may take to have all that the server has."""


class NoStandbyError(Exception):
    """There is none, for a reason that is not synk's."""


def follow(server: EmbeddedServer, standby: EmbeddedServer) -> None:
    """Makes and starts the standby; from then on the server confirms only what that has stored.

    Raises:
        NoStandbyError: it cannot be made here.
    """
    _wait_for(lambda: pq.PGconn.ping(server.conninfo.encode()) == pq.Ping.OK, "the server")
    _copy(server, standby.folder)
    standby.start()
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
        following = "SELECT count(*) FROM pg_stat_replication WHERE"
        _wait_for(lambda: value(connection, f"{following} sync_state = 'sync'"), "the standby")
        # What was confirmed before that must be there too.
        end = value(connection, "SELECT pg_current_wal_flush_lsn()")
        _wait_for(lambda: value(connection, f"{following} flush_lsn >= '{end}'"), "its copy")


def promote(standby: EmbeddedServer) -> None:
    with psycopg.connect(standby.conninfo, autocommit=True) as connection:
        if not value(connection, "SELECT pg_promote()"):
            raise RuntimeError("the standby was not promoted")


def _copy(server: EmbeddedServer, folder: Path) -> None:
    user = server_user()
    program = reachable_binaries(server.binaries, user) / "pg_basebackup"
    if not program.is_file():
        raise NoStandbyError(f"no pg_basebackup in {program.parent}")
    folder.mkdir(mode=0o755)
    make_private(folder / "data", user)
    command = [str(program), "-D", str(folder / "data"), "-d", server.conninfo]
    status, output = user.run([*command, "--write-recovery-conf", "--checkpoint=fast"])
    if status != 0:
        raise NoStandbyError(output)


def _wait_for(fact: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LEVEL_S
    while not fact():
        if time.monotonic() > deadline:
            raise RuntimeError(f"after {LEVEL_S:g} s {what} is not ready")
        time.sleep(0.02)
