"""PostgreSQL for the tests: one server a run, one database a test.

The server is the one of `SYNK_TEST_DATABASE_URL` if that is set, else one in a container where a
Docker engine answers, else synk's embedded server in a folder of its own.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import uuid
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from synk.runtime.ipc import linux
from synk.storage import migrate
from synk.storage import sql as files
from synk.storage.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

GIVEN: Final = "SYNK_TEST_DATABASE_URL"
IMAGE: Final = "postgres:18-alpine"
LOGIN: Final = "synk_test_login"
"""A role that the embedded server asks for its password."""

SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum": "off",
}
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the file system itself
_ROOM_BYTES: Final = 4 << 30
_HBA: Final = f"local all {LOGIN} scram-sha-256\nlocal all all trust\n"


MIGRATIONS: Final = [
    f"{version:03} {name}" for version, name, _ in files.migrations(files.DEFAULT_SCHEMA)[1:]
]


class Server:
    """A running server, on which databases are made and dropped."""

    def __init__(self, dsn: str, schema_version: int = migrate.LATEST) -> None:
        self.dsn = dsn
        self._run = f"synk_test_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        self._made = 0
        self._kept: str | None = None
        self._admin = psycopg.connect(dsn, autocommit=True)
        self._has_strategy = self._admin.info.server_version >= 150000
        self._template = self._create("template0")
        with psycopg.connect(self.dsn_of(self._template), autocommit=True) as connection:
            migrate.apply(connection, up_to=schema_version)

    def dsn_of(self, database: str) -> str:
        return make_conninfo(self.dsn, dbname=database)

    @contextmanager
    def database(self, *, migrated: bool = True) -> Iterator[str]:
        """Gives the DSN of a new database, which is dropped afterwards, whoever is connected."""
        name = self._create(self._template if migrated else "template0")
        try:
            yield self.dsn_of(name)
        finally:
            self._drop(name)

    def emptied(self) -> str:
        """Returns the DSN of a database without jobs, the same each time: ten times as fast.

        For tests that leave nothing else behind, and of which one runs at a time.
        """
        if self._kept is None:
            self._kept = self._create(self._template)
        with psycopg.connect(self.dsn_of(self._kept), autocommit=True) as connection:
            connection.execute(
                "TRUNCATE synk.job, synk.client, synk.stack_question, synk.completed, synk.permit"
                " RESTART IDENTITY"
            )
            # Not in the oldest schema.
            connection.execute(
                "DO $$ BEGIN IF to_regclass('synk.periodic') IS NOT NULL THEN"
                " DELETE FROM synk.periodic; END IF; END $$"
            )
        return self.dsn_of(self._kept)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stops every process of the server, and lets them go on afterwards."""
        place = self._admin.execute("SHOW data_directory").fetchone()
        assert place is not None
        main = int((Path(place[0]) / "postmaster.pid").read_text().split()[0])
        pids = [main, *linux.descendants(main)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def reconnect(self) -> None:
        """After a crash: the connection that makes and drops databases is gone too."""
        self._admin.close()
        self._admin = psycopg.connect(self.dsn, autocommit=True)

    def close(self) -> None:
        for name in filter(None, (self._kept, self._template)):
            self._drop(name)
        self._admin.close()

    def _create(self, template: str) -> str:
        self._made += 1
        name = f"{self._run}_{self._made}"
        # With fsync off, its two checkpoints cost less than all pages through the log.
        strategy = sql.SQL(" STRATEGY file_copy" if self._has_strategy else "")
        self._admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
            + strategy
        )
        return name

    def _drop(self, name: str) -> None:
        self._admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def running_server() -> Generator[Server]:
    """Gives the server of this run."""
    if given := os.environ.get(GIVEN):
        with _served(given) as server:
            yield server
    elif docker_answers():
        with _container() as dsn, _served(dsn) as server:
            yield server
    else:
        with embedded_server() as server:
            yield server


@contextmanager
def embedded_server(
    binaries: Path | None = None, schema_version: int = migrate.LATEST
) -> Generator[Server]:
    """Gives an embedded server, of the wheel or of *binaries*, in a folder that goes afterwards."""
    folder = new_folder("synk-tests-")
    try:
        (folder / "pg_hba.conf").write_text(_HBA)
        settings = {**SETTINGS, "hba_file": str(folder / "pg_hba.conf")}
        with (
            EmbeddedServer(folder / "server", binaries=binaries, settings=settings) as embedded,
            _served(embedded.conninfo, schema_version) as server,
        ):
            yield server
    finally:
        shutil.rmtree(folder)


def new_folder(prefix: str) -> Path:
    """Makes a folder for a server: in memory, where there is room for all that the tests store.

    On a disk that others sync, the hundreds of files of a database take ten times as long to make.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_MEMORY if _has_room(_MEMORY) else None))
    folder.chmod(0o755)  # the server may run as another user
    return folder


def _has_room(place: Path) -> bool:
    """Whether so much can be stored there, and programs be run from there."""
    try:
        found = os.statvfs(place)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize > _ROOM_BYTES and not found.f_flag & os.ST_NOEXEC


@contextmanager
def _served(dsn: str, schema_version: int = migrate.LATEST) -> Generator[Server]:
    server = Server(dsn, schema_version)
    try:
        yield server
    finally:
        server.close()


def docker_answers() -> bool:
    """Tells whether a Docker engine can be asked for a container."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _ping_docker()
        except Exception:
            return False
        finally:
            gc.collect()  # a ping that fails leaves a socket, whose warning would come later


def _ping_docker() -> bool:
    import docker

    client = docker.from_env(timeout=5)
    try:
        return bool(client.ping())
    finally:
        client.close()


@contextmanager
def _container() -> Generator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # testcontainers' own
        from testcontainers.postgres import PostgresContainer

        container = PostgresContainer(IMAGE, driver=None)
        container.with_command("postgres -c fsync=off -c max_connections=200 -c autovacuum=off")
        container.start()
    try:
        yield container.get_connection_url(driver=None)
    finally:
        container.stop()
