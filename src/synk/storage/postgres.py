"""Storage on PostgreSQL through psycopg 3: it runs `Statements`, and translates errors.

Making one opens, starts and reads nothing: the module that makes the client is imported in every
worker process. The first use opens a small connection pool, and again in another process, since a
connection must not cross a fork.

What psycopg raises leaves this module only as the errors of `synk.errors`, by the table in
`synk.storage.faults`. Passwords are in none of the messages.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import psycopg
from psycopg.sql import SQL, Identifier

from synk.errors import OutcomeUnknown, SchemaMismatch
from synk.storage import migrate, sql
from synk.storage.acknowledging import Acknowledging
from synk.storage.announcing import PING_ANSWER_S, NoAnnouncements, PostgresAnnouncements
from synk.storage.connecting import Connector
from synk.storage.cursors import run
from synk.storage.faults import is_of_no_use, translated
from synk.storage.heartbeat import PostgresHeartbeat
from synk.storage.inserting import Inserting
from synk.storage.statements import Statements

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Generator, Mapping, Sequence
    from uuid import UUID

    import psycopg_pool

    from synk.claim import AckAnswer, ClaimCursor, ClaimedJob, Fence, Outcome
    from synk.insertion import NewJob
    from synk.row import CancelReason, Change, JobList, JobRow, JobState, KindSummary
    from synk.status import (
        ClientRow,
        ClientStatus,
        JobProgress,
        Lease,
        QueueDepths,
        Rescued,
        UnknownKind,
    )
    from synk.storage.statements import Statement

T = TypeVar("T")

_BEAT_S: Final = 5.0
"""How long a renewal of a lease may wait for its answer."""

_MIGRATION_S: Final = 6 * 3600.0
"""An index over a large table takes its time."""


class PostgresStorage:
    """The job store on PostgreSQL 14 or later.

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
        self._connector = Connector(target, pooler)
        self._inserting = Inserting(self._connector, self.statements, self._translated)

    @property
    def schema(self) -> str:
        """The schema that holds synk's tables."""
        return self.statements.schema

    def __repr__(self) -> str:
        return f"PostgresStorage({self.describe()!r}, schema={self.schema!r})"

    def describe(self) -> str:
        """Says which database this is, in a form without a password."""
        return self._connector.describe()

    def conninfo(self) -> str:
        """Returns what libpq connects with, password included; starts an embedded server.

        Raises:
            ConfigurationError: it was given a pool, or no database is named.
            StorageUnavailable: the embedded server does not start.
        """
        return self._connector.conninfo()

    @property
    def is_embedded(self) -> bool:
        """Whether it is on a server that synk runs itself."""
        return self._connector.is_embedded

    # -- the contract -------------------------------------------------------------------------

    def ping(self) -> list[str]:
        """See `Storage.ping`."""
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

    def get_job_available(
        self,
        queue: str,
        limit: int,
        *,
        kinds: Sequence[str],
        owner: UUID,
        claim_seq: int,
        after: Mapping[int, ClaimCursor] | None = None,
        bytes_max: int | None = None,
    ) -> list[ClaimedJob]:
        """See `Storage.get_job_available`."""
        return self._run(
            self.statements.claim(
                queue,
                limit,
                kinds=kinds,
                owner=owner,
                claim_seq=claim_seq,
                after=after,
                bytes_max=bytes_max,
            )
        )

    def update_job_state(self, owner: UUID, outcomes: Sequence[Outcome]) -> list[AckAnswer]:
        """See `Storage.update_job_state`."""
        return Acknowledging(self._run, self.statements, owner).of(outcomes)

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
        return self._run(self.statements.cleaner(state, retention, limit))

    def stage(self, limit: int) -> int:
        """See `Storage.stage`."""
        return self._run(self.statements.stage(limit))

    def settle(self, limit: int) -> int:
        """See `Storage.settle`."""
        return self._run(self.statements.settle(limit))

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
        reason: CancelReason | None = None,
        since: dt.datetime | dt.timedelta | None = None,
    ) -> JobList:
        """See `Inspection.jobs`."""
        return self._run(
            self.statements.jobs(
                state=state, queue=queue, kind=kind, limit=limit, reason=reason, since=since
            )
        )

    def counts(self, queue: str | None = None) -> dict[JobState, int]:
        """See `Inspection.counts`."""
        return self._run(self.statements.counts(queue))

    def summary(self, queue: str | None = None) -> list[KindSummary]:
        """See `Inspection.summary`."""
        return self._run(self.statements.summary(queue))

    def cancel_requests(self, owner: UUID) -> list[Fence]:
        """See `Storage.cancel_requests`."""
        return self._run(self.statements.cancel_requests(owner))

    def save_progress(self, owner: UUID, found: Sequence[JobProgress]) -> int:
        """See `Storage.save_progress`."""
        return self._run(self.statements.save_progress(owner, found))

    def register_client(self, status: ClientStatus, ttl: dt.timedelta) -> None:
        """See `Storage.register_client`."""
        self._run(self.statements.register_client(status, ttl))

    @contextmanager
    def heartbeat(self, owner: UUID) -> Generator[PostgresHeartbeat]:
        """See `Storage.heartbeat`."""
        with self._translated(), self._connector.single(answer_s=_BEAT_S) as connection:
            yield PostgresHeartbeat(connection, self.statements.heartbeat(owner), self.describe)

    def leases(self) -> list[Lease]:
        """See `Storage.leases`."""
        return self._run(self.statements.leases())

    def declare_dead(self, suspects: Sequence[Lease]) -> list[UUID]:
        """See `Storage.declare_dead`."""
        return self._run(self.statements.declare_dead(suspects))

    def dead_owners(self) -> list[UUID]:
        """See `Storage.dead_owners`."""
        return self._run(self.statements.dead_owners())

    def rescue(self, dead: Sequence[UUID], limit: int) -> list[Rescued]:
        """See `Storage.rescue`."""
        return self._run(self.statements.rescue(dead, limit))

    def running(self, owner: UUID) -> list[ClaimedJob]:
        """See `Storage.running`."""
        return self._run(self.statements.running(owner))

    def report_client(self, status: ClientStatus) -> None:
        """See `Storage.report_client`."""
        self._run(self.statements.report_client(status))

    def clients(self, within: dt.timedelta) -> list[ClientRow]:
        """See `Inspection.clients`."""
        return self._run(self.statements.clients(within))

    def unknown_kinds(self, queues: Sequence[str] | None = None) -> list[UnknownKind]:
        """See `Inspection.unknown_kinds`."""
        return self._run(self.statements.unknown_kinds(queues))

    def queue_depths(self) -> QueueDepths:
        """See `Inspection.queue_depths`."""
        return self._run(self.statements.queue_depths())

    def forget_clients(self) -> int:
        """See `Storage.forget_clients`."""
        return self._run(self.statements.forget_clients())

    def ask_stack(self, job_id: int) -> int | None:
        """See `Inspection.ask_stack`."""
        return self._run(self.statements.ask_stack(job_id))

    def stack_questions(self, owner: UUID) -> list[tuple[int, int]]:
        """See `Inspection.stack_questions`."""
        return self._run(self.statements.stack_questions(owner))

    def answer_stack(self, question: int, answer: str) -> None:
        """See `Inspection.answer_stack`."""
        self._run(self.statements.answer_stack(question, answer))

    def stack_answer(self, question: int) -> str | None:
        """See `Inspection.stack_answer`."""
        return self._run(self.statements.stack_answer(question))

    @contextmanager
    def announcements(self, owner: UUID) -> Generator[PostgresAnnouncements | NoAnnouncements]:
        """See `Storage.announcements`. Opens a connection of its own: nothing else runs on it."""
        if self._connector.pooler is not None:
            yield NoAnnouncements()
            return
        with (
            self._translated(),
            self._connector.single(answer_s=PING_ANSWER_S) as connection,
        ):
            for name in ("job", "cancel"):
                quoted = Identifier(sql.channel(name, self.schema))
                connection.execute(SQL("LISTEN {}").format(quoted))
            announcements = PostgresAnnouncements(
                connection, owner, schema=self.schema, describe=self.describe
            )
            try:
                yield announcements
            finally:
                announcements.close()

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
        with (
            self._translated(),
            self._connector.single(answer_s=_MIGRATION_S, bounded=False) as connection,
        ):
            return migrate.apply(connection, self.schema, with_roles=roles, tell=tell)

    def close(self) -> None:
        """See `Storage.close`.

        A pool that was passed in is left open. An embedded server is shared by all storages of this
        process; it stops when the last process that uses it ends.
        """
        self._connector.close()

    @property
    def connector(self) -> Connector:
        """How its connections are made."""
        return self._connector

    def _run(self, statement: Statement[T]) -> T:
        with self._translated(), self._connector.connection() as connection:
            return run(connection, statement)

    @contextmanager
    def _translated(self) -> Generator[None]:
        """Translates errors, and drops the pool where they say that its server is of no use."""
        with translated(self.describe):
            try:
                yield
            except (psycopg.Error, OutcomeUnknown) as error:
                if isinstance(error, OutcomeUnknown) or is_of_no_use(error):
                    self._connector.drop_pool(error)
                raise
