"""Transactions that change tables while everybody uses them.

A lock that is not had at once makes all who come later wait behind it. So each try waits for a
moment only, gives everything back, and the next comes after a pause, in which the others go on:
however long somebody keeps a transaction open, nobody else stands still. Waiting holds nothing, not
even the lock that keeps two from migrating at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from psycopg import errors as _pg
from psycopg.rows import tuple_row

from synk.errors import StorageConflict

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

T = TypeVar("T")

LOCK_ID: Final = 7_959_371_058_302
"""Any constant of our own; the same in every version, so that versions exclude each other."""

PATIENCE_S: Final = 3600.0

_LOCK_MS: Final = 500
"""How long a try may keep the others waiting."""

_VACUUM_MS: Final = 500
"""A vacuum of the server's own gives way to whoever waits for longer than `deadlock_timeout`: so
much longer."""

_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)

_SETTINGS: Final = """
SELECT set_config(s.name, CASE WHEN s.name <> 'lock_timeout' THEN '0'
                               WHEN %s THEN (d.setting::integer + %s)::text ELSE %s::text END, true)
FROM pg_settings AS s JOIN pg_settings AS d ON d.name = 'deadlock_timeout'
WHERE s.name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout',
                 'idle_in_transaction_session_timeout', 'row_security')
"""
"""Whatever the role or the database says; not every version has each of them. With row_security off
a statement fails that could not see all rows."""

_HOLDERS: Final = """
SELECT l.pid, l.virtualtransaction, coalesce(c.oid::regclass::text, 'another migration'),
       a.usename, a.application_name, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN pg_class AS c ON l.locktype = 'relation' AND c.oid = l.relation AND c.relkind = 'r'
     AND c.relnamespace = to_regnamespace(%s)
WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
  AND (c.oid IS NOT NULL OR l.locktype = 'advisory' AND l.classid = %s::bigint::oid
                            AND l.objid = %s::bigint::oid AND l.objsubid = 1)
ORDER BY a.xact_start, l.pid
"""


class _BusyError(Exception):
    """Another migration is under way."""


@dataclass(frozen=True, slots=True)
class _Holder:
    pid: int | None
    transaction: str
    target: str
    user: str | None = field(compare=False)
    application: str | None = field(compare=False)
    state: str | None = field(compare=False)
    since_s: float | None = field(compare=False)

    def __str__(self) -> str:
        if self.pid is None:
            return f"{self.target}: a prepared transaction (see pg_prepared_xacts)"
        facts = [self.user or "the server's own", self.application, self.state]
        if self.since_s is not None:
            facts.append(f"in a transaction for {self.since_s:.0f} s")
        return f"{self.target}: pid {self.pid} ({', '.join(filter(None, facts))})"


@dataclass(slots=True)
class Patient:
    """Runs transactions, each again and again until it gets its locks."""

    connection: psycopg.Connection[Any]
    schema: str
    tell: Callable[[str], None]
    patience_s: float = PATIENCE_S

    def run(self, work: Callable[[], T]) -> T:
        """Runs *work* in a transaction of its own, and nobody else migrates meanwhile.

        Raises:
            StorageConflict: its locks were not to be had in all that time.
        """
        started = time.monotonic()
        told: set[_Holder] = set()
        pauses = iter(_PAUSES_S)
        longer = False
        while True:
            before = self._holders()
            try:
                with self.connection.transaction():
                    self._begin(longer=longer)
                    return work()
            except (_BusyError, _pg.LockNotAvailable, _pg.DeadlockDetected) as error:
                # Whoever held a lock all the time; or anybody, if they took turns.
                after = self._holders()
                blocking = [each for each in after if each in before] or after
                if time.monotonic() - started > self.patience_s:
                    raise StorageConflict(self._told(blocking, "gave up")) from error
                if not told.issuperset(blocking):
                    self.tell(self._told(blocking, "tries again until they are free"))
                    told.update(blocking)
                longer = any(each.pid is not None and each.user is None for each in blocking)
            time.sleep(next(pauses, _PAUSES_S[-1]))

    def _begin(self, *, longer: bool) -> None:
        rows(self.connection, _SETTINGS, (longer, _VACUUM_MS, _LOCK_MS))
        if not rows(self.connection, "SELECT pg_try_advisory_xact_lock(%s)", (LOCK_ID,))[0][0]:
            raise _BusyError

    def _holders(self) -> list[_Holder]:
        place = (f'"{self.schema}"', LOCK_ID >> 32, LOCK_ID & 0xFFFFFFFF)
        return [_Holder(*row) for row in rows(self.connection, _HOLDERS, place)]

    @staticmethod
    def _told(blocking: list[_Holder], then: str) -> str:
        holders = "; ".join(str(each) for each in blocking[:5]) or "nobody any more"
        return f"the migration waits for locks that others hold, and {then}: {holders}"


def rows(connection: psycopg.Connection[Any], query: str, values: Any = None) -> list[Any]:
    """Returns the rows of an answer as tuples, whatever the caller's connection makes of rows."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(query.encode(), values).fetchall()
