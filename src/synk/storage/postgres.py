"""Storage on PostgreSQL through psycopg 3: it runs `Statements`, and translates errors.

Making one opens, starts and reads nothing: the module that makes the client is imported in every
worker process. The first use opens a small connection pool, and again in another process, since a
connection must not cross a fork.

What psycopg raises leaves this module only as the errors of `synk.errors`, by the table in
`synk.storage.faults`. Passwords are in none of the messages.
"""

from __future__ import annotations

import functools
import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Final, Literal, ParamSpec, TypeVar

import psycopg
from psycopg.sql import SQL, Identifier

from synk.errors import InvalidJob, OutcomeUnknown, SchemaMismatch, StorageError
from synk.storage import sql
from synk.storage.acknowledging import Acknowledging
from synk.storage.announcing import PING_ANSWER_S, NoAnnouncements, PostgresAnnouncements
from synk.storage.connecting import Connector
from synk.storage.cursors import run
from synk.storage.faults import is_of_no_use, translated
from synk.storage.inserting import Inserting
from synk.storage.statements import Statements
from synk.storage.statements_bulk import ChangeWalk, CountWalk

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Generator, Sequence
    from uuid import UUID

    import psycopg_pool

    from synk.bulk import Changes, Found, JobFilter
    from synk.claim import AckAnswer, Outcome
    from synk.insertion import NewJob
    from synk.row import JobState
    from synk.storage.bulking import Progress, Verb
    from synk.storage.heartbeat import PostgresHeartbeat
    from synk.storage.statement import Statement
    from synk.unique import Inserted

P = ParamSpec("P")
T = TypeVar("T")

_BEAT_S: Final = 5.0
"""How long a renewal of a lease may wait for its answer."""

_MIGRATION_S: Final = 6 * 3600.0
"""An index over a large table takes its time."""


def _running(
    make: Callable[Concatenate[Statements, P], Statement[T]],
) -> Callable[Concatenate[PostgresStorage, P], T]:
    """Returns the method of a storage that runs the statement of *make*."""

    @functools.wraps(make)
    def method(self: PostgresStorage, *args: P.args, **kwargs: P.kwargs) -> T:
        statement = make(self.statements, *args, **kwargs)
        return self._run(statement)  # pyright: ignore[reportPrivateUsage] - it is one of its methods

    signature = inspect.signature(make)
    # What it returns is the answer, which no signature of a statement says.
    setattr(method, "__signature__", signature.replace(return_annotation=signature.empty))  # noqa: B010 - to a type checker a function has none
    return method


class PostgresStorage:
    """The job store on PostgreSQL 14 or later.

    Most of its methods, all of `Storage`, `Inspection`, `RuntimeSettings` and
    `Scheduling`, only run the statement of their name.

    Args:
        target: a DSN (``postgresql://...`` or ``host=... dbname=...``), ``embedded`` or
            ``embedded:///path`` for a server that synk runs itself, or a
            `psycopg_pool.ConnectionPool` of yours, which stays yours to open and close; what needs
            a connection for itself makes one as the pool makes its own. An `AsyncClient` takes a
            `psycopg_pool.AsyncConnectionPool` as well. None: the DSN in the environment variable
            SYNK_DATABASE_URL, read at the first use.
        schema: the schema that holds synk's tables.
        pooler: ``transaction`` where a PgBouncer in that mode lies between: no prepared statements,
            no settings of the session, and no LISTEN, so that new jobs are found by polling.

    Attributes:
        statements: what it runs.
        connector: how its connections are made.

    Raises:
        ConfigurationError: the DSN cannot be parsed, or the schema is no plain identifier.
    """

    def __init__(
        self,
        target: str
        | psycopg_pool.ConnectionPool[Any]
        | psycopg_pool.AsyncConnectionPool[Any]
        | None = None,
        *,
        schema: str = sql.DEFAULT_SCHEMA,
        pooler: Literal["transaction"] | None = None,
    ) -> None:
        self.statements = Statements(schema)
        self.connector = Connector(target, pooler)
        self._inserting = Inserting(self.connector, self.statements, self._translated)

    @property
    def schema(self) -> str:
        """The schema that holds synk's tables."""
        return self.statements.schema

    def __repr__(self) -> str:
        return f"PostgresStorage({self.describe()!r}, schema={self.schema!r})"

    def describe(self) -> str:
        """Says which database this is, in a form without a password."""
        return self.connector.describe()

    def conninfo(self) -> str:
        """Returns what libpq connects with, password included; starts an embedded server.

        Raises:
            ConfigurationError: it was given a pool, or no database is named.
            StorageUnavailable: the embedded server does not start.
        """
        return self.connector.conninfo()

    @property
    def is_embedded(self) -> bool:
        """Whether it is on a server that synk runs itself."""
        return self.connector.is_embedded

    # -- the contract -----------------------------------------------------------------------------

    def ping(self) -> list[str]:
        """See `Storage.ping`."""
        from synk.storage import migrate  # noqa: PLC0415 - only supervisors need it

        version = self._run(self.statements.schema_version())
        migrate.check_not_newer(version, self.schema)
        hidden = self.hidden()
        if version < migrate.OLDEST:
            raise SchemaMismatch(
                f"schema {self.schema!r} is at version {version}, this synk needs "
                f"{migrate.OLDEST} or later: {hidden or 'run `synk migrate`'}"
            )
        return [hidden] if hidden else []

    def hidden(self, *, from_readers: bool = False) -> str:
        """Says of which tables row-level security may hide rows from this role; empty if of none.

        Args:
            from_readers: of whom only listings are of interest.
        """
        return self._run(self.statements.hidden(from_readers=from_readers))

    def insert(self, jobs: Sequence[NewJob], *, connection: object | None = None) -> list[int]:
        """See `Storage.insert`; *connection* is a psycopg connection of the caller's.

        Raises:
            ConfigurationError: *connection* is none, or closed.
        """
        if connection is not None:
            return self._inserting.in_transaction_of(connection, jobs)
        return self._inserting.alone(jobs)

    def insert_unique(
        self, jobs: Sequence[NewJob], *, connection: object | None = None
    ) -> list[Inserted]:
        """See `Uniqueness.insert_unique`; *connection* as in `insert`."""
        if connection is not None:
            return self._inserting.unique_in_transaction_of(connection, jobs)
        return self._inserting.unique_alone(jobs)

    def update_job_state(self, owner: UUID, outcomes: Sequence[Outcome]) -> list[AckAnswer]:
        """See `Storage.update_job_state`."""
        return Acknowledging(self._run, self.statements, owner).of(outcomes)

    def cleaner(self, state: JobState, retention: dt.timedelta, *, limit: int) -> int:
        """See `Storage.cleaner`. Each batch is a transaction."""
        removed, room, after = 0, limit, None
        while removed < limit:
            cleaned = self.clean(state, retention, limit=room, after=after)
            removed += cleaned.removed
            if cleaned.looked < room:
                break
            room = room * 2 if cleaned.last == after else limit - removed
            after = cleaned.last
        return removed

    get_job_available = _running(Statements.claim)
    cancel = _running(Statements.cancel)
    retry = _running(Statements.retry)
    delete = _running(Statements.delete)
    ready = _running(Statements.ready)
    stage = _running(Statements.stage)
    settle = _running(Statements.settle)
    sweep = _running(Statements.sweep)
    clean = _running(Statements.cleaner)
    get = _running(Statements.get)
    cancel_requests = _running(Statements.cancel_requests)
    save_progress = _running(Statements.save_progress)
    register_client = _running(Statements.register_client)
    report_client = _running(Statements.report_client)
    forget_clients = _running(Statements.forget_clients)
    leases = _running(Statements.leases)
    declare_dead = _running(Statements.declare_dead)
    dead_owners = _running(Statements.dead_owners)
    rescue = _running(Statements.rescue)
    running = _running(Statements.running)

    @contextmanager
    def heartbeat(self, owner: UUID) -> Generator[PostgresHeartbeat]:
        """See `Storage.heartbeat`."""
        from synk.storage.heartbeat import PostgresHeartbeat  # noqa: PLC0415 - as above

        with self._translated(), self.connector.single(answer_s=_BEAT_S) as connection:
            yield PostgresHeartbeat(connection, self.statements.heartbeat(owner), self.describe)

    @contextmanager
    def announcements(self, owner: UUID) -> Generator[PostgresAnnouncements | NoAnnouncements]:
        """See `Storage.announcements`. Opens a connection of its own: nothing else runs on it."""
        if self.connector.pooler is not None:
            yield NoAnnouncements()
            return
        with (
            self._translated(),
            self.connector.single(answer_s=PING_ANSWER_S) as connection,
        ):
            for name in ("job", "cancel", "setting"):
                quoted = Identifier(sql.channel(name, self.schema))
                connection.execute(SQL("LISTEN {}").format(quoted))
            announcements = PostgresAnnouncements(
                connection, owner, schema=self.schema, describe=self.describe
            )
            try:
                yield announcements
            finally:
                announcements.close()

    # -- many jobs at once ------------------------------------------------------------------------

    def count_many(self, wanted: JobFilter) -> Found:
        """See `Bulking.count_many`."""
        walk = CountWalk(self.statements, self._run(self.statements.bulk_bounds(wanted)))
        while (statement := walk.next()) is not None:
            walk.took(self._run(statement))
        return walk.found()

    def change_many(
        self,
        verb: Verb,
        wanted: JobFilter,
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> Changes:
        """See `Bulking.change_many`."""
        bound = self._run(self.statements.bulk_bounds(wanted))
        walk = ChangeWalk(self.statements, verb, bound, limit)
        while (statement := walk.next()) is not None:
            try:
                walk.took(self._run(statement))
            except (StorageError, InvalidJob) as error:
                if not walk.goes_on_after(error):
                    raise
                continue
            if progress is not None:
                progress(walk.changes)
        return walk.changes

    # -- what people who look ask -----------------------------------------------------------------

    jobs = _running(Statements.jobs)
    counts = _running(Statements.counts)
    summary = _running(Statements.summary)
    clients = _running(Statements.clients)
    unknown_kinds = _running(Statements.unknown_kinds)
    queue_depths = _running(Statements.queue_depths)
    ask_stack = _running(Statements.ask_stack)
    stack_questions = _running(Statements.stack_questions)
    answer_stack = _running(Statements.answer_stack)
    stack_answer = _running(Statements.stack_answer)

    # -- settings that change while supervisors run -----------------------------------------------

    settings = _running(Statements.settings)
    change_settings = _running(Statements.change_settings)
    report_in_force = _running(Statements.report_in_force)
    standings = _running(Statements.standings)
    count_running = _running(Statements.count_running)
    oldest_due = _running(Statements.oldest_due)

    # -- periodic jobs ----------------------------------------------------------------------------

    declare_schedule = _running(Statements.declare_schedule)
    note_declared = _running(Statements.note_declared)
    due_schedules = _running(Statements.due_schedules)
    take_ticks = _running(Statements.take_ticks)
    schedules = _running(Statements.schedules)
    pause_schedule = _running(Statements.pause_schedule)
    resume_schedule = _running(Statements.resume_schedule)
    remove_schedule = _running(Statements.remove_schedule)
    run_schedule = _running(Statements.run_schedule)

    # -- limits: see `Limiting` --------------------------------------------------------------------

    claim_keyed = _running(Statements.claim_keyed)
    release_permits = _running(Statements.release_permits)
    permits = _running(Statements.permits)
    key_jobs = _running(Statements.key_jobs)
    limited_keys = _running(Statements.limited_keys)

    # -- besides ----------------------------------------------------------------------------------

    def migrate(
        self, *, roles: bool = True, tell: Callable[[str], None] | None = None
    ) -> list[str]:
        """Brings the schema up to date; returns the names of the migrations it applied.

        The role must be allowed to create in the schema, or to make it; in a schema that is there
        already, nothing is touched but what synk made.

        Args:
            roles: whether the four roles are made, as far as that is allowed. What is not is told,
                with the SQL for a superuser; nothing in synk needs them.
            tell: is given each line for people: what could not be done, who holds a lock that is
                waited for, what the server remarks. By default they go to the log ``synk``.

        Raises:
            SchemaMismatch: the database has a newer schema than this code.
            ConfigurationError: the schema has something that has a name of synk's and is not
                synk's. Nothing was changed.
            StorageConflict: somebody held a lock that it needs for an hour.
            StorageUnavailable: the database cannot be reached.
            StorageError: the role may not; the message has the SQL that allows it.
        """
        from synk.storage import migrate  # noqa: PLC0415 - as above

        with (
            self._translated(),
            self.connector.single(answer_s=_MIGRATION_S, bounded=False) as connection,
        ):
            return migrate.apply(connection, self.schema, with_roles=roles, tell=tell)

    def close(self) -> None:
        """See `Storage.close`.

        A pool that was passed in is left open. An embedded server is shared by all storages of this
        process; it stops when the last process that uses it ends.
        """
        self.connector.close()

    def _run(self, statement: Statement[T]) -> T:
        with self._translated(), self.connector.connection() as connection:
            return run(connection, statement)

    @contextmanager
    def _translated(self) -> Generator[None]:
        """Translates errors, and drops the pool where they say that its server is of no use."""
        with translated(self.describe):
            try:
                yield
            except (psycopg.Error, OutcomeUnknown) as error:
                if isinstance(error, OutcomeUnknown) or is_of_no_use(error):
                    self.connector.drop_pool(error)
                raise
