"""Connections to PostgreSQL: how they are made, bounded in time, pooled, and given up.

No statement waits for ever: each connection of synk's own gives up on an answer that does not come
(a network that drops packets, a server that stands still), and is closed then. A pool whose server
has gone, or has become read-only, is dropped as a whole: its other connections lead to the same
server.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

import psycopg
import psycopg_pool
from psycopg import conninfo as _conninfo
from psycopg.rows import TupleRow

from synk.errors import ConfigurationError
from synk.storage import embedded, pool_log

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg.abc import PQGen

RV = TypeVar("RV")

DSN_VARIABLE: Final = "SYNK_DATABASE_URL"

POOL_CONNECTIONS_MAX: Final = 5
"""Claims, acknowledgements, maintenance and the caller's own calls; the heartbeat and listening
have their own."""

CONNECT_S: Final = 10
"""How long a connection may take to be made, or to be had from the pool."""

ANSWER_S: Final = 60.0
"""How long an answer may take; the server itself gives up a little earlier."""

_STATEMENT_MS: Final = 50_000
_LOCK_MS: Final = 5_000
_IDLE_IN_TRANSACTION_MS: Final = 60_000

_SESSION: Final = {
    # Whatever the role or the database says.
    "default_transaction_isolation": "read committed",
    "search_path": "pg_catalog,public,pg_temp",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "array_nulls": "on",
    # Listening is being idle.
    "idle_session_timeout": "0",
    # An index that leaves dependents out would leave them waiting for ever.
    "gin_fuzzy_search_limit": "0",
    "statement_timeout": str(_STATEMENT_MS),
    "lock_timeout": str(_LOCK_MS),
    "idle_in_transaction_session_timeout": str(_IDLE_IN_TRANSACTION_MS),
    # Every join of synk's statements is a few hundred look-ups by a key. On a table that has grown
    # since its statistics were taken, the planner would rather read all of it.
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # A plan from when the table was small is kept while it grows. Where there is no index to use,
    # as for counts of everything, a table is read from end to end all the same.
    "enable_seqscan": "off",
    "enable_nestloop": "on",
    "enable_indexscan": "on",
    "enable_bitmapscan": "on",
    "plan_cache_mode": "auto",
    # Compiling takes longer than any of them.
    "jit": "off",
}

_KEEPALIVE: Final = {
    # A peer that is gone without a word is noticed after some 20 s, see tcp(7).
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

Pool: TypeAlias = "psycopg_pool.ConnectionPool[psycopg.Connection[TupleRow]]"


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection that does not wait for an answer for ever."""

    answer_s: float = ANSWER_S

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """See `psycopg.Connection.wait`.

        Raises:
            psycopg.OperationalError: the answer did not come in time; the connection is closed.
        """
        if timeout is not None:
            # Waiting for notifications, which need not come.
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_s)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.answer_s:g} s") from None


class BoundedAsyncConnection(psycopg.AsyncConnection[TupleRow]):
    """The same for asyncio."""

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of psycopg
    ) -> RV:
        """See `BoundedConnection.wait`."""
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        try:
            return await super().wait(gen, interval, ANSWER_S)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {ANSWER_S:g} s") from None


def is_alive(connection: psycopg.BaseConnection[Any]) -> bool:
    """Whether a connection that nobody used meanwhile still has its server, as far as is known.

    A server that shuts down, and a network that resets, leave word of it in the socket. Looked at
    before anything is sent, so that nothing is unknown about what was sent.
    """
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
        while poll.poll(0):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return True


class Connector:
    """One way to one database: a pool of a few connections, and single ones.

    Args:
        target: a DSN, a pool of the caller's, or None: the DSN in the environment.
        pooler: ``transaction`` if a PgBouncer in that mode lies between.
    """

    def __init__(self, target: Any, pooler: str | None) -> None:
        if isinstance(target, str):
            check_dsn(target)
        elif target is not None and not isinstance(target, psycopg_pool.ConnectionPool):
            raise ConfigurationError(
                "storage", target, "must be a DSN or a psycopg_pool.ConnectionPool"
            )
        if pooler not in (None, "transaction"):
            raise ConfigurationError("pooler", pooler, "must be None or 'transaction'")
        self._given: str | Pool | None = target
        self.pooler = pooler
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._pool_pid = 0

    @property
    def _target(self) -> str | Pool:
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
        if self._given is None and not os.environ.get(DSN_VARIABLE):
            return "no database"
        target = self._target
        if isinstance(target, str) and embedded.is_embedded(target):
            return target
        return _described(self.conninfo())

    def conninfo(self) -> str:
        """Returns what libpq connects with; starts an embedded server."""
        target = self._target
        if not isinstance(target, str):
            return target.conninfo if isinstance(target.conninfo, str) else ""
        if embedded.is_embedded(target):
            return embedded.server_for(target).start()
        return target

    def options(self, *, bounded: bool = True) -> dict[str, Any]:
        """Returns what to connect with besides the conninfo.

        Args:
            bounded: whether the server is to give up on slow statements and locks.
        """
        target = self._target
        if not isinstance(target, str):
            given = target.kwargs
            own = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
            return {name: value for name, value in own.items() if name != "autocommit"}
        return connect_options(self.conninfo(), pooler=self.pooler, bounded=bounded)

    # -- connections ------------------------------------------------------------------------------

    @contextmanager
    def connection(self) -> Generator[psycopg.Connection[Any]]:
        """Lends a connection of the pool."""
        with ExitStack() as lent:
            pool, connection = self._lend(lent)
            if pool is not self._given and not is_alive(connection):
                lent.close()
                self.drop_pool()
                _, connection = self._lend(lent)
            yield connection

    def _lend(self, lent: ExitStack) -> tuple[Pool, psycopg.Connection[Any]]:
        pool = self._opened_pool()
        try:
            return pool, lent.enter_context(pool.connection(timeout=CONNECT_S))
        except psycopg_pool.PoolClosed:
            if pool is self._given:
                raise
            # Another thread has given it up since; that is no trouble of this one.
            pool = self._opened_pool()
            return pool, lent.enter_context(pool.connection(timeout=CONNECT_S))

    @contextmanager
    def single(
        self, *, answer_s: float = ANSWER_S, bounded: bool = True
    ) -> Generator[psycopg.Connection[Any]]:
        """Makes a connection that nothing else uses."""
        with BoundedConnection.connect(
            self.conninfo(), autocommit=True, **self.options(bounded=bounded)
        ) as connection:
            connection.answer_s = answer_s
            yield connection

    def drop_pool(self) -> None:
        """Gives up all connections of the pool: they lead to a server that is of no use."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._pool_pid == os.getpid():
            # Nobody waits for it: whoever has a connection will notice by itself.
            threading.Thread(target=pool.close, name="synk-drop", daemon=True).start()

    def close(self) -> None:
        """Gives up the pool; the next use opens another. The caller's own pool is left alone."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._pool_pid == os.getpid():
            pool.close()

    def _opened_pool(self) -> Pool:
        target = self._target
        if not isinstance(target, str):
            return target
        pool = self._pool
        if pool is not None and self._pool_pid == os.getpid():
            return pool
        with self._lock:
            if self._pool is None or self._pool_pid != os.getpid():
                self._pool = self._open_pool()
                self._pool_pid = os.getpid()
            return self._pool

    def _open_pool(self) -> Pool:
        # A first connection by hand: the pool retries in the background, and would report a wrong
        # password or a wrong port as a time-out.
        options = self.options()
        BoundedConnection.connect(self.conninfo(), autocommit=True, **options).close()
        pool: Pool = psycopg_pool.ConnectionPool(
            self.conninfo(),
            connection_class=BoundedConnection,
            kwargs={"autocommit": True, **options},
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


def connect_options(
    conninfo: str, *, pooler: str | None = None, bounded: bool = True
) -> dict[str, Any]:
    """Returns what synk adds to a DSN that does not say otherwise.

    Of the settings in the DSN's own ``options`` each takes the place of synk's.
    """
    given = _conninfo.conninfo_to_dict(conninfo)
    defaults: dict[str, Any] = {
        "application_name": "synk",
        # Whatever the database's: the server says then which text it cannot hold, and psycopg never
        # takes text for bytes.
        "client_encoding": "utf8",
        "connect_timeout": CONNECT_S,
        **_KEEPALIVE,
    }
    if "," in str(given.get("host", "")):
        # One of several servers, as in a cluster with a standby.
        defaults["target_session_attrs"] = "read-write"
    options = {name: value for name, value in defaults.items() if name not in given}
    # Names and arguments are Unicode, whatever else the database and its clients speak.
    options["client_encoding"] = "UTF8"
    if pooler is None:
        own = [_session_options(bounded=bounded), str(given.get("options", ""))]
        options["options"] = " ".join(filter(None, own))
    else:
        # The next statement may run on another server connection, which knows none of ours.
        options["prepare_threshold"] = None
    return options


def _session_options(*, bounded: bool) -> str:
    def chosen(name: str, value: str) -> str:
        return "0" if not bounded and name.endswith("_timeout") else value.replace(" ", r"\ ")

    return " ".join(f"-c {name}={chosen(name, value)}" for name, value in _SESSION.items())


def _close_pool(pool: Pool, pid: int) -> None:
    if os.getpid() == pid:
        pool.close()


def check_dsn(dsn: str) -> None:
    """Checks that *dsn* can be parsed.

    Raises:
        ConfigurationError: it cannot; the message has no part of it that may be a password.
    """
    if embedded.is_embedded(dsn):
        return
    try:
        _conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # libpq's own words quote the part that it stumbled over, which may be the password.
        raise ConfigurationError(
            "storage",
            _without_password(dsn),
            "is no PostgreSQL DSN: write postgresql://user:password@host/database, with special "
            "characters percent-encoded, or host=... dbname=...",
        ) from None


def _described(conninfo: str) -> str:
    parts = _conninfo.conninfo_to_dict(conninfo)
    host = parts.get("host") or os.environ.get("PGHOST") or "local socket"
    port = parts.get("port") or os.environ.get("PGPORT") or 5432
    database = parts.get("dbname") or os.environ.get("PGDATABASE") or parts.get("user") or "default"
    return f"database {database} at {host}:{port}"


def _without_password(dsn: str) -> str:
    return f"{dsn.split(':', 1)[0]}:…" if "://" in dsn else "…"
