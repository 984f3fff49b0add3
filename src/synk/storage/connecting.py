"""Connections to PostgreSQL: a pool of a few, and single ones; how they are made and given up.

A pool whose server has gone, or has become read-only, is dropped as a whole: its other connections
lead to the same server. A pool of the caller's own is left as it is.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psycopg_pool

from synk.errors import ConfigurationError
from synk.storage import pool_log, project, recipes
from synk.storage.bounds import ANSWER_S, BoundedAsyncConnection, BoundedConnection, is_alive
from synk.storage.cursors import PlainCursor
from synk.storage.given import GivenPool
from synk.storage.sessions import (
    CONNECT_S,
    check_dsn,
    connect_options,
    described,
    described_session,
)
from synk.waits import left_s

if TYPE_CHECKING:
    from collections.abc import Generator

    import psycopg

    from synk.storage.embedded import EmbeddedServer

DSN_VARIABLE: Final = "SYNK_DATABASE_URL"

POOL_CONNECTIONS_MAX: Final = 5
"""Claims, acknowledgements, maintenance and the caller's own calls; the heartbeat and listening
have their own."""

Pool: TypeAlias = "psycopg_pool.ConnectionPool[Any]"
AsyncPool: TypeAlias = "psycopg_pool.AsyncConnectionPool[Any]"
AsyncRecipe: TypeAlias = "tuple[type[BoundedAsyncConnection], str, dict[str, Any]]"
"""How connections for asyncio are made: their class, its conninfo, and what else it is told."""


class Connector:
    """One way to one database: a pool of a few connections, and single ones.

    Args:
        target: a DSN, a pool of the caller's, or None: the DSN in the environment.
        pooler: ``transaction`` if a PgBouncer in that mode lies between.
    """

    def __init__(self, target: Any, pooler: str | None) -> None:
        pools = (psycopg_pool.ConnectionPool, psycopg_pool.AsyncConnectionPool)
        if isinstance(target, str):
            check_dsn(target)
        elif target is not None and not isinstance(target, pools):
            raise ConfigurationError(
                "storage",
                target,
                "must be a DSN or a psycopg_pool.ConnectionPool, or, for an AsyncClient, a "
                "psycopg_pool.AsyncConnectionPool",
            )
        if pooler not in (None, "transaction"):
            raise ConfigurationError("pooler", pooler, "must be None or 'transaction'")
        self._given: str | Pool | AsyncPool | None = target
        # Now: a job may go elsewhere before its first use of this.
        self._project = project.database_of(project.working_folder())
        self._served: tuple[int | None, str] = (None, "")
        """The embedded server's process, and what leads to the project's database on it."""
        self.pooler = pooler
        self.is_pooled = True
        """Set it to False before the first use where one thread asks a few questions, as a command
        does: then there is one connection, and no pool with threads of its own."""
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._pool: Pool | OneConnection | None = None
        self._pool_pid = 0
        self._lender: GivenPool | None = None
        self._seen: str | None = None
        """Where a connection of the given pool led to."""

    @property
    def is_pipelined(self) -> bool:
        """Whether several statements may be under way at once; some poolers lose their way then."""
        return self.pooler is None

    @property
    def given_async_pool(self) -> AsyncPool | None:
        """The caller's own pool, if it is one for asyncio."""
        return self._given if isinstance(self._given, psycopg_pool.AsyncConnectionPool) else None

    @property
    def _target(self) -> str | Pool:
        if isinstance(self._given, psycopg_pool.AsyncConnectionPool):
            raise ConfigurationError(
                "storage",
                self._given,
                "is a pool for asyncio, which only an AsyncClient can use: give a DSN or a "
                "psycopg_pool.ConnectionPool",
            )
        if self._given is not None:
            return self._given
        dsn = os.environ.get(DSN_VARIABLE)
        if not dsn:
            raise ConfigurationError(
                "storage",
                None,
                f"names no database: give a DSN, or set {DSN_VARIABLE}, which worker processes get "
                "only if `worker_env` names it",
            )
        check_dsn(dsn)
        return dsn

    def describe(self) -> str:
        """Says which database this is, in a form without a password."""
        given = self._given
        if given is None and not (given := os.environ.get(DSN_VARIABLE)):
            return "no database"
        if not isinstance(given, str):
            return self._seen or self._pool_described(given)
        if not project.is_embedded(given):
            return described(given)
        if given == project.EMBEDDED and self._served[0] is not None:
            place = _server_for(given).folder
            return f"database {self._project} of the embedded server in {place}"
        return given

    def _pool_described(self, pool: Pool | AsyncPool) -> str:
        self._seen = recipes.pool_described(pool)
        return self._seen or f"the database of the pool {pool.name!r}"

    def note(self, connection: psycopg.BaseConnection[Any]) -> None:
        """Takes note of where a connection of the given pool leads to."""
        if self._seen is None:
            self._seen = described_session(connection)

    def conninfo(self) -> str:
        """Returns what libpq connects with, if it was given; starts an embedded server."""
        target = self._target
        if not isinstance(target, str):
            raise ConfigurationError("storage", target, "is a pool, which makes its connections")
        return self._embedded(target) if project.is_embedded(target) else target

    @property
    def is_embedded(self) -> bool:
        """Whether it leads to a server that synk runs itself."""
        return isinstance(self._target, str) and project.is_embedded(self._target)

    def _embedded(self, target: str) -> str:
        server = _server_for(target)
        conninfo = server.start()
        if target != project.EMBEDDED:
            return conninfo
        pid, served = self._served
        if pid is None or pid != server.pid:
            served = project.connected_to(conninfo, self._project, server.folder)
            self._served = server.pid, served
        return served

    # -- connections ------------------------------------------------------------------------------

    @contextmanager
    def connection(self) -> Generator[psycopg.Connection[Any]]:
        """Lends a connection of the pool."""
        target = self._target
        with ExitStack() as lent:
            if isinstance(target, str):
                yield self._lend_alive(lent)
            else:
                yield lent.enter_context(self._given_pool(target).connection())

    def _given_pool(self, pool: Pool) -> GivenPool:
        if self._lender is None:
            self._lender = GivenPool(pool, self.single, self.note)
        return self._lender

    def _lend_alive(self, lent: ExitStack) -> psycopg.Connection[Any]:
        connection = self._lend(lent)
        if not is_alive(connection):
            lent.close()
            self._drop()
            connection = self._lend(lent)
        return connection

    def _lend(self, lent: ExitStack) -> psycopg.Connection[Any]:
        try:
            return lent.enter_context(self._opened_pool().connection(timeout=left_s(CONNECT_S)))
        except psycopg_pool.PoolClosed:
            # Another thread has given it up since; that is no trouble of this one.
            return lent.enter_context(self._opened_pool().connection(timeout=left_s(CONNECT_S)))

    def single(
        self, *, answer_s: float = ANSWER_S, bounded: bool = True
    ) -> psycopg.Connection[Any]:
        """Makes a connection that nothing else uses, which is the caller's to close.

        Args:
            answer_s: how long it waits for an answer, in seconds.
            bounded: whether the server is to give up on slow statements and locks.
        """
        target = self._target
        if not isinstance(target, str):
            connection = recipes.made_like(target, answer_s=answer_s)
            if self.pooler is not None:
                connection.prepare_threshold = None
            self.note(connection)
            return connection
        conninfo, options = self._recipe(bounded=bounded)
        connection = BoundedConnection.connect(conninfo, **options)
        connection.answer_s = answer_s
        # What it is told by its own execute() goes by psycopg's adapters for all connections.
        connection.cursor_factory = PlainCursor
        return connection

    def for_asyncio(self) -> AsyncRecipe:
        """Returns how connections for asyncio are made; starts an embedded server."""
        if not isinstance(self._target, str):
            return recipes.adopting(self.single), "", {}
        return BoundedAsyncConnection, *self._recipe()

    def _recipe(self, *, bounded: bool = True) -> tuple[str, dict[str, Any]]:
        """Returns the conninfo of connections to what was named by a DSN, and their options."""
        conninfo = self.conninfo()
        options = connect_options(conninfo, pooler=self.pooler, bounded=bounded)
        return conninfo, {"autocommit": True, **options}

    def drop_pool(self, error: BaseException) -> None:
        """Gives up all connections of the pool: by *error* their server is of no use."""
        if self._lender is not None:
            self._lender.is_of_no_use(error)
        self._drop()

    def _drop(self) -> None:
        if (pool := self._given_up()) is not None:
            # Nobody waits for it: whoever has a connection will notice by itself.
            threading.Thread(target=pool.close, name="synk-drop", daemon=True).start()

    def close(self) -> None:
        """Gives up the pool; the next use opens another. The caller's own pool is left alone."""
        if (pool := self._given_up()) is not None:
            pool.close()

    def _given_up(self) -> Pool | OneConnection | None:
        """Returns the pool, which nobody uses any more; None if this process has none."""
        with self._lock:
            pool, self._pool = self._pool, None
        return pool if self._pool_pid == os.getpid() else None

    def _opened_pool(self) -> Pool | OneConnection:
        pool = self._pool
        if pool is not None and self._pool_pid == os.getpid():
            return pool
        if not self._opening.acquire(timeout=left_s(threading.TIMEOUT_MAX)):
            raise psycopg_pool.PoolTimeout("another thread still waits for a connection")
        try:
            pool = self._pool
            if pool is None or self._pool_pid != os.getpid():
                pool = self._open_pool()
                with self._lock:
                    self._pool, self._pool_pid = pool, os.getpid()
            return pool
        finally:
            self._opening.release()

    def _open_pool(self) -> Pool | OneConnection:
        # A first connection by hand: the pool retries in the background, and would report a wrong
        # password or a wrong port as a time-out.
        first = self.single()
        if not self.is_pooled:
            return OneConnection(first)
        first.close()
        conninfo, options = self._recipe()
        pool: Pool = psycopg_pool.ConnectionPool(
            conninfo,
            connection_class=BoundedConnection,
            kwargs=options,
            min_size=1,
            max_size=POOL_CONNECTIONS_MAX,
            open=False,
            name=pool_log.POOL,
        )
        pool_log.be_silent_about_own()
        pool.open()
        # A pool still open when the interpreter ends joins its threads too late: Python 3.13 hangs
        # there. Programs may end without closing their client.
        weakref.finalize(self, _close_pool, pool, os.getpid())
        return pool


class OneConnection:
    """What takes the place of a pool where one connection is enough."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @contextmanager
    def connection(self, **_: float) -> Generator[psycopg.Connection[Any]]:
        """Lends it."""
        yield self._connection

    def close(self) -> None:
        """Closes it."""
        self._connection.close()


def _server_for(dsn: str) -> EmbeddedServer:
    from synk.storage.embedded import server_for  # noqa: PLC0415 - most have a server

    return server_for(dsn)


def _close_pool(pool: Pool, pid: int) -> None:
    if os.getpid() == pid:
        pool.close()
