"""Storage on PostgreSQL through psycopg 3: it runs `Statements`, and translates errors.

Making one opens, starts and reads nothing: the module that makes the client is imported in every
worker process. The first use opens a small connection pool, and again in another process, since a
connection must not cross a fork.

What psycopg raises leaves this module only as the errors of `synk.errors`, by the table
`translate`. Passwords are in none of the messages.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import psycopg
import psycopg_pool
from psycopg import conninfo as _conninfo
from psycopg import errors as _pg
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier

from synk.errors import (
    ConfigurationError,
    InvalidJob,
    SchemaMismatch,
    StorageError,
    StorageUnavailable,
    SynkError,
    UnknownDependency,
)
from synk.job import AckAnswer
from synk.storage import embedded, migrate, sql
from synk.storage.statements import Statements

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Generator, Iterator, Sequence
    from uuid import UUID

    from synk.job import Change, ClaimedJob, Fence, JobRow, JobState, KindSummary, NewJob, Outcome
    from synk.status import Backlog, ClientRow, ClientStatus, JobNotes
    from synk.storage.statements import Statement

T = TypeVar("T")

DSN_VARIABLE: Final = "SYNK_DATABASE_URL"

_POOL_CONNECTIONS_MAX: Final = 5
"""Claims, acknowledgements, maintenance and the caller's own calls; listening has its own."""

_CONNECT_TIMEOUT_S: Final = 10
_INSERT_CHUNK: Final = 5_000
"""Rows a statement: beyond this a bulk insert gains nothing, and memory grows."""


class PostgresStorage:
    """The job store on PostgreSQL 14 or later.

    Args:
        target: a DSN (``postgresql://...`` or ``host=... dbname=...``), ``embedded`` or
            ``embedded:///path`` for a server that synk runs itself, or a
            `psycopg_pool.ConnectionPool` of yours, which stays yours to open and close. None: the
            DSN in the environment variable SYNK_DATABASE_URL, read at the first use.
        schema: the schema that holds synk's tables.

    Raises:
        ConfigurationError: the DSN cannot be parsed, or the schema is no plain identifier.
    """

    def __init__(
        self,
        target: str | psycopg_pool.ConnectionPool[Any] | None = None,
        *,
        schema: str = sql.DEFAULT_SCHEMA,
    ) -> None:
        self.statements = Statements(schema)
        self._given = target
        self._lock = threading.Lock()
        self._pool: psycopg_pool.ConnectionPool[Any] | None = None
        self._pool_pid = 0
        if isinstance(target, str):
            _check_dsn(target)
        elif target is not None and not isinstance(target, psycopg_pool.ConnectionPool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                "storage", target, "must be a DSN or a psycopg_pool.ConnectionPool"
            )

    @property
    def _target(self) -> str | psycopg_pool.ConnectionPool[Any]:
        if self._given is not None:
            return self._given
        dsn = os.environ.get(DSN_VARIABLE)
        if not dsn:
            raise ConfigurationError(
                "storage", None, f"names no database: give a DSN, or set {DSN_VARIABLE}"
            )
        _check_dsn(dsn)
        return dsn

    @property
    def schema(self) -> str:
        """The schema that holds synk's tables."""
        return self.statements.schema

    def __repr__(self) -> str:
        return f"PostgresStorage({self.describe()!r}, schema={self.schema!r})"

    def describe(self) -> str:
        """Says which database this is, in a form without a password."""
        if self._given is None and not os.environ.get(DSN_VARIABLE):
            return "no database"
        if isinstance(self._target, str) and embedded.is_embedded(self._target):
            return self._target
        return _described(self._conninfo())

    # -- the contract -------------------------------------------------------------------------

    def ping(self) -> None:
        """See `Storage.ping`."""
        version = self._run(self.statements.schema_version())
        migrate.check_not_newer(version, self.schema)
        if version < migrate.LATEST:
            raise SchemaMismatch(
                f"schema {self.schema!r} is at version {version}, this synk needs "
                f"{migrate.LATEST}: run `synk migrate`"
            )

    def insert(self, jobs: Sequence[NewJob], *, connection: object | None = None) -> list[int]:
        """See `Storage.insert`; *connection* is a psycopg connection of the caller's."""
        if connection is not None:
            if not isinstance(connection, psycopg.Connection):
                raise ConfigurationError("connection", connection, "must be a psycopg.Connection")
            with translated(self.describe):
                return self._insert_on(cast("psycopg.Connection[Any]", connection), jobs)
        if len(jobs) == 1:
            return self._run(self.statements.insert(jobs[0]))
        with translated(self.describe), self._connection() as own, own.transaction():
            return self._insert_on(own, jobs)

    def _insert_on(self, connection: psycopg.Connection[Any], jobs: Sequence[NewJob]) -> list[int]:
        ids: list[int] = []
        for statement in insert_statements(self.statements, jobs):
            ids += _execute(connection, statement)
        return ids

    def get_job_available(
        self, queue: str, limit: int, *, kinds: Sequence[str], owner: UUID, claim_seq: int
    ) -> list[ClaimedJob]:
        """See `Storage.get_job_available`."""
        return self._run(
            self.statements.claim(queue, limit, kinds=kinds, owner=owner, claim_seq=claim_seq)
        )

    def update_job_state(self, owner: UUID, outcomes: Sequence[Outcome]) -> list[AckAnswer]:
        """See `Storage.update_job_state`."""
        applied = self._run(self.statements.ack(owner, outcomes))
        if applied == len(outcomes):
            return [AckAnswer.APPLIED] * applied
        # What was applied just now reads as a duplicate: the row says that it was acknowledged
        # under this attempt. To the caller the two mean the same.
        return self._run(self.statements.ack_answers(owner, outcomes))

    def cancel(self, job_id: int) -> Change:
        """See `Storage.cancel`."""
        return self._run(self.statements.cancel(job_id))

    def retry(self, job_id: int) -> Change:
        """See `Storage.retry`."""
        return self._run(self.statements.retry(job_id))

    def delete(self, job_id: int) -> Change:
        """See `Storage.delete`."""
        return self._run(self.statements.delete(job_id))

    def ready(self, job_id: int) -> Change:
        """See `Storage.ready`."""
        return self._run(self.statements.ready(job_id))

    def cleaner(self, state: JobState, retention: dt.timedelta, *, limit: int) -> int:
        """See `Storage.cleaner`."""
        return self._run(self.statements.clean(state, retention, limit))

    def stage(self, limit: int) -> int:
        """See `Storage.stage`."""
        return self._run(self.statements.stage(limit))

    def get(self, job_ids: Sequence[int]) -> list[JobRow]:
        """See `Storage.get`."""
        return self._run(self.statements.get(job_ids))

    def jobs(
        self,
        *,
        state: JobState | None = None,
        queue: str | None = None,
        kind: str | None = None,
        limit: int = 50,
    ) -> list[JobRow]:
        """See `Storage.jobs`."""
        return self._run(self.statements.jobs(state=state, queue=queue, kind=kind, limit=limit))

    def counts(self, queue: str | None = None) -> dict[JobState, int]:
        """See `Storage.counts`."""
        return self._run(self.statements.counts(queue))

    def summary(self, queue: str | None = None) -> list[KindSummary]:
        """See `Storage.summary`."""
        return self._run(self.statements.summary(queue))

    def cancel_requests(self, owner: UUID) -> list[Fence]:
        """See `Storage.cancel_requests`."""
        return self._run(self.statements.cancel_requests(owner))

    def release_claim(self, owner: UUID, claim_seq: int) -> int:
        """See `Storage.release_claim`."""
        return self._run(self.statements.release_claim(owner, claim_seq))

    def note(self, owner: UUID, notes: Sequence[JobNotes]) -> int:
        """See `Storage.note`."""
        return self._run(self.statements.note(owner, notes))

    def report_client(self, status: ClientStatus) -> None:
        """See `Storage.report_client`."""
        self._run(self.statements.report_client(status))

    def clients(self, within: dt.timedelta) -> list[ClientRow]:
        """See `Storage.clients`."""
        return self._run(self.statements.clients(within))

    def backlog(self) -> Backlog:
        """See `Storage.backlog`."""
        return self._run(self.statements.backlog())

    def forget_clients(self) -> int:
        """See `Storage.forget_clients`."""
        return self._run(self.statements.forget_clients())

    def ask_stack(self, job_id: int) -> int | None:
        """See `Storage.ask_stack`."""
        return self._run(self.statements.ask_stack(job_id))

    def stack_questions(self, owner: UUID) -> list[tuple[int, int]]:
        """See `Storage.stack_questions`."""
        return self._run(self.statements.stack_questions(owner))

    def answer_stack(self, question: int, answer: str) -> None:
        """See `Storage.answer_stack`."""
        self._run(self.statements.answer_stack(question, answer))

    def stack_answer(self, question: int) -> str | None:
        """See `Storage.stack_answer`."""
        return self._run(self.statements.stack_answer(question))

    @contextmanager
    def announcements(self, owner: UUID) -> Generator[PostgresAnnouncements]:
        """See `Storage.announcements`. Opens a connection of its own: nothing else runs on it."""
        with translated(self.describe):
            connection = psycopg.connect(
                self._conninfo(), autocommit=True, **self._connect_options()
            )
            with connection:
                for name in ("job", "cancel"):
                    quoted = Identifier(sql.channel(name, self.schema))
                    connection.execute(SQL("LISTEN {}").format(quoted))
                yield PostgresAnnouncements(connection, self, owner)

    def migrate(self) -> list[str]:
        """Brings the schema up to date; returns the names of the migrations it applied.

        Raises:
            SchemaMismatch: the database has a newer schema than this code.
            StorageUnavailable: the database cannot be reached.
        """
        with translated(self.describe):
            options = self._connect_options()
            with psycopg.connect(self._conninfo(), autocommit=True, **options) as connection:
                return migrate.apply(connection, self.schema)

    def close(self) -> None:
        """See `Storage.close`.

        A pool that was passed in is left open. An embedded server is shared by all storages of this
        process; it stops when the last process that uses it ends.
        """
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._pool_pid == os.getpid():
            pool.close()

    # -- connections --------------------------------------------------------------------------

    def _run(self, statement: Statement[T]) -> T:
        with translated(self.describe), self._connection() as connection:
            return _execute(connection, statement)

    @contextmanager
    def _connection(self) -> Generator[psycopg.Connection[Any]]:
        with self._opened_pool().connection(timeout=_CONNECT_TIMEOUT_S) as connection:
            yield connection

    def _opened_pool(self) -> psycopg_pool.ConnectionPool[Any]:
        if not isinstance(self._target, str):
            return self._target
        pool = self._pool
        if pool is not None and self._pool_pid == os.getpid():
            return pool
        with self._lock:
            if self._pool is None or self._pool_pid != os.getpid():
                self._pool = self._open_pool()
                self._pool_pid = os.getpid()
            return self._pool

    def _open_pool(self) -> psycopg_pool.ConnectionPool[Any]:
        # A first connection by hand: the pool retries in the background, and would report a wrong
        # password or a wrong port as a time-out.
        options = self._connect_options()
        psycopg.connect(self._conninfo(), autocommit=True, **options).close()
        pool: psycopg_pool.ConnectionPool[Any] = psycopg_pool.ConnectionPool(
            self._conninfo(),
            kwargs={"autocommit": True, **options},
            min_size=1,
            max_size=_POOL_CONNECTIONS_MAX,
            open=False,
            name="synk",
        )
        pool.open()
        # A pool still open when the interpreter ends joins its threads too late: Python 3.13 hangs
        # there. Programs may end without closing their client.
        weakref.finalize(self, _close_pool, pool, os.getpid())
        return pool

    def _conninfo(self) -> str:
        if not isinstance(self._target, str):
            return self._target.conninfo if isinstance(self._target.conninfo, str) else ""
        if embedded.is_embedded(self._target):
            return embedded.server_for(self._target).start()
        return self._target

    def connect_arguments(self) -> tuple[str, dict[str, Any]]:
        """Returns the conninfo and the options to connect with; starts an embedded server."""
        return self._conninfo(), self._connect_options()

    def _connect_options(self) -> dict[str, Any]:
        if not isinstance(self._target, str):
            given = self._target.kwargs
            options = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
            return {name: value for name, value in options.items() if name != "autocommit"}
        return connect_options(self._conninfo())


class PostgresAnnouncements:
    """Hints over LISTEN, on a connection of its own."""

    def __init__(
        self, connection: psycopg.Connection[Any], storage: PostgresStorage, owner: UUID
    ) -> None:
        self._connection = connection
        self._storage = storage
        self._cancel = (sql.channel("cancel", storage.schema), str(owner))

    def wait(self, timeout_s: float) -> bool:
        """See `Announcements.wait`."""
        with translated(self._storage.describe):
            hints = self._connection.notifies(timeout=timeout_s, stop_after=1)
            return any(
                hint.channel != self._cancel[0] or hint.payload == self._cancel[1] for hint in hints
            )


def insert_statements(
    statements: Statements, jobs: Sequence[NewJob]
) -> Iterator[Statement[list[int]]]:
    """Yields the statements that insert *jobs*: one row alone, or chunks of many."""
    if len(jobs) == 1:
        yield statements.insert(jobs[0])
        return
    for start in range(0, len(jobs), _INSERT_CHUNK):
        yield statements.insert_many(jobs[start : start + _INSERT_CHUNK])


def connect_options(conninfo: str) -> dict[str, Any]:
    """Returns what synk adds to a DSN that does not say otherwise."""
    given = _conninfo.conninfo_to_dict(conninfo)
    defaults: dict[str, Any] = {
        "application_name": "synk",
        "connect_timeout": _CONNECT_TIMEOUT_S,
    }
    return {name: value for name, value in defaults.items() if name not in given}


def _close_pool(pool: psycopg_pool.ConnectionPool[Any], pid: int) -> None:
    if os.getpid() == pid:
        pool.close()


def _execute(connection: psycopg.Connection[Any], statement: Statement[T]) -> T:
    with connection.cursor(binary=statement.binary, row_factory=tuple_row) as cursor:
        cursor.execute(statement.text, statement.parameters)
        rows = cursor.fetchall() if cursor.description is not None else []
        return statement.read(rows, cursor.rowcount)


def _check_dsn(dsn: str) -> None:
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@contextmanager
def translated(describe: Callable[[], str]) -> Generator[None]:
    """Turns what psycopg raises into what synk raises."""
    try:
        yield
    except SynkError:
        raise
    except (psycopg.Error, psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed) as error:
        raise translate(error, describe()) from error


def translate(error: Exception, database: str) -> SynkError:
    """Returns the error of `synk.errors` that stands for a psycopg error."""
    text = _one_line(error)
    state = getattr(error, "sqlstate", None)
    match error:
        case _ if state == "SY001":
            detail = getattr(getattr(error, "diag", None), "message_detail", None)
            unknown = int(detail) if detail and detail.lstrip("-").isdigit() else detail
            return UnknownDependency("depends_on", unknown, "there is no such job")
        case _pg.UndefinedTable() | _pg.InvalidSchemaName() | _pg.UndefinedColumn():
            return SchemaMismatch(f"{database} has no synk schema yet: run `synk migrate` ({text})")
        case _pg.DataError() | _pg.IntegrityError():
            return InvalidJob("job", text, "the database refuses this value")
        case psycopg_pool.PoolTimeout() | psycopg_pool.PoolClosed():
            return StorageUnavailable(f"no connection to {database}: {text}")
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return StorageUnavailable(f"cannot use {database}: {text}")
        case _:
            return StorageError(f"{database} refused: {text}")
