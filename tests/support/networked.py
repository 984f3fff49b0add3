"""A PostgreSQL server of the machine's own that is reached over TCP, as in production."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from support import needs
from support.servers import SETTINGS
from synk.storage import migrate
from synk.storage.embedded_host import make_private, server_user

USER: Final = "app"
PASSWORD: Final = "c4nary"


@dataclass(frozen=True)
class NetworkedServer:
    """It has synk's schema, and a role with a password that runs jobs."""

    folder: Path
    port: int

    @property
    def local(self) -> str:
        """The superuser's way in."""
        return make_conninfo(
            host=str(self.folder / "run"), port=self.port, user="postgres", dbname="postgres"
        )

    def dsn(self, host: str, **changed: str) -> str:
        """The way in over the network."""
        given = {"host": host, "port": self.port, "dbname": "postgres", "user": USER}
        return make_conninfo(**{**given, "password": PASSWORD, **changed})


@contextmanager
def networked_server(
    folder: Path, *, listen: str, hba: str, settings: Mapping[str, str] | None = None
) -> Iterator[NetworkedServer]:
    """Gives a server in a folder that every user may enter.

    Args:
        folder: where it is kept.
        listen: the addresses that it listens on.
        hba: who may come from where; its superuser may come by the socket.
        settings: more of its settings.
    """
    needs.postgres15()
    server, user = NetworkedServer(folder, _free_port()), server_user()
    data, run = folder / "data", folder / "run"
    for place in (data, run):
        make_private(place, user)
    (folder / "hba.conf").write_text(f"local all postgres trust\n{hba}\n")
    chosen = {
        **SETTINGS,
        "listen_addresses": listen,
        "port": str(server.port),
        "unix_socket_directories": str(run),
        "hba_file": str(folder / "hba.conf"),
        **(settings or {}),
    }
    options = " ".join(f"-c {name}='{value}'" for name, value in chosen.items())
    _run("initdb", "-D", str(data), "--username=postgres", "--auth=trust", "--no-sync")
    _run("pg_ctl", "start", "-s", "-w", "-D", str(data), "-l", str(run / "log"), "-o", options)
    try:
        with psycopg.connect(server.local, autocommit=True) as connection:
            migrate.apply(connection)
            role, password = sql.Identifier(USER), sql.Literal(PASSWORD)
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE synk_supervisor").format(
                    role, password
                )
            )
        yield server
    finally:
        _run("pg_ctl", "stop", "-s", "-m", "immediate", "-D", str(data))


def _run(program: str, *arguments: str) -> None:
    status, output = server_user().run([str(needs.postgres15(program)), *arguments])
    assert status == 0, output


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
