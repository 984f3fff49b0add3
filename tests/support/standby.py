"""A PostgreSQL server and its streaming standby, for fail-overs on one machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from support.servers import SETTINGS, new_folder
from support.supervising import wait_until
from synk.storage import migrate
from synk.storage.embedded import EmbeddedServer
from synk.storage.embedded_host import make_private, reachable_binaries, server_user

_HBA = "local all all trust\nlocal replication all trust\n"


class Pair:
    """Two servers, the second of which follows the first."""

    def __init__(self, primary: EmbeddedServer, standby: EmbeddedServer) -> None:
        self.primary = primary
        self.standby = standby

    @property
    def dsn(self) -> str:
        """Leads to whichever of the two takes writes."""
        hosts = ",".join(str(conninfo_to_dict(each.conninfo)["host"]) for each in self)
        return f"host={hosts} user=postgres dbname=postgres password=c4nary"

    def __iter__(self) -> Iterator[EmbeddedServer]:
        yield self.primary
        yield self.standby

    def wait_until_level(self) -> None:
        """Waits until the standby has all that the primary has."""
        with psycopg.connect(self.primary.conninfo, autocommit=True) as connection:
            row = connection.execute("SELECT pg_current_wal_lsn()").fetchone()
        assert row is not None

        def has_it() -> bool:
            with psycopg.connect(self.standby.conninfo, autocommit=True) as connection:
                return connection.execute(
                    "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", row
                ).fetchone() == (True,)

        wait_until(has_it, what="the standby to follow")

    def cut(self) -> None:
        """From now on the standby hears nothing of the primary."""
        self.wait_until_level()
        alter_system(self.standby, "primary_conninfo", "")
        with psycopg.connect(self.standby.conninfo, autocommit=True) as connection:
            waits = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"
            wait_until(lambda: connection.execute(waits).fetchone() == (0,), what="the cut")

    def promote(self) -> None:
        """Has the standby take writes."""
        with psycopg.connect(self.standby.conninfo, autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)


def alter_system(server: EmbeddedServer, name: str, value: str) -> None:
    """Changes a setting of a running server."""
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(
            sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
        )
        connection.execute("SELECT pg_reload_conf()")


@contextmanager
def replicated() -> Iterator[Pair]:
    """Gives a pair with synk's schema, in a folder that goes afterwards."""
    folder = new_folder("synk-pair-")
    (folder / "pg_hba.conf").write_text(_HBA)
    settings = {**SETTINGS, "hba_file": str(folder / "pg_hba.conf"), "max_connections": "50"}
    servers = [EmbeddedServer(folder / name, settings=settings) for name in ("one", "two")]
    try:
        with ExitStack() as stack:
            primary = stack.enter_context(servers[0])
            with psycopg.connect(primary.conninfo, autocommit=True) as connection:
                migrate.apply(connection)
            _copy(primary, folder / "two")
            pair = Pair(primary, stack.enter_context(servers[1]))
            # Before the stack would stop them in an orderly way, which takes long.
            stack.callback(lambda: [server.stop("immediate") for server in servers])
            pair.wait_until_level()
            yield pair
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(primary: EmbeddedServer, folder: Path) -> None:
    user = server_user()
    program = reachable_binaries(primary.binaries, user) / "pg_basebackup"
    if not program.is_file():
        pytest.skip(f"no pg_basebackup in {program.parent}")
    folder.mkdir(mode=0o755)
    make_private(folder / "data", user)
    command = [str(program), "-D", str(folder / "data"), "-d", primary.conninfo]
    status, output = user.run([*command, "--write-recovery-conf", "--checkpoint=fast"])
    assert status == 0, output
