"""What psycopg raises, and what synk makes of it: one table by SQLSTATE.

class or state          means                                     becomes
----------------------  ----------------------------------------  -------------------------------
08xxx, 57P01 to 57P05,  the connection, or its server, is of no    StorageUnavailable, and the
25006, no state         more use                                  pool is dropped
53xxx                   no room, no memory, no connections left   StorageUnavailable
40001, 40P01            rolled back, by no fault of the statement StorageConflict
55P03                   a lock was not had in time                StorageConflict
57014                   the statement took too long               StorageConflict
22xxx, 23xxx, 54xxx,    a value is refused                        InvalidJob
no UTF-8
3F000, 42P01, 42703     the schema is not there                   SchemaMismatch
SY001                   a dependency does not exist               UnknownDependency
anything else           the server refused                        StorageError

Around an insert, what ends a connection after it may have been committed (no state, 08xxx, 57P01,
57P02) becomes OutcomeUnknown.

What follows: a supervisor waits for what is unavailable and goes on, repeats what was in conflict
with fewer jobs for a while, and halves what is refused until the one to blame is alone. A producer
gets the error, but for an insert that may be repeated.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
import psycopg_pool
from psycopg import errors as _pg

from synk.errors import (
    InvalidJob,
    OutcomeUnknown,
    SchemaMismatch,
    StorageConflict,
    StorageError,
    StorageUnavailable,
    SynkError,
    UnknownDependency,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_CONFLICTS: Final = frozenset({"40001", "40P01", "55P03", "57014"})
_USELESS: Final = ("08", "57P", "25006")
_UNANSWERED: Final = ("08", "57P01", "57P02")
_FULL: Final = "53"
_REFUSED_VALUES: Final = ("22", "23", "54")


@contextmanager
def translated(describe: Callable[[], str]) -> Generator[None]:
    """Turns what psycopg raises into what synk raises."""
    try:
        yield
    except SynkError:
        raise
    except (
        psycopg.Error,
        psycopg_pool.PoolTimeout,
        psycopg_pool.PoolClosed,
        UnicodeEncodeError,
    ) as error:
        raise translate(error, describe()) from error


@contextmanager
def told_if_unknown(describe: Callable[[], str]) -> Generator[None]:
    """Says of what ends a connection during an insert that the jobs may be stored, or not."""
    try:
        yield
    except psycopg.Error as error:
        state = error.sqlstate or ""
        if state.startswith(_UNANSWERED) or (not state and is_of_no_use(error)):
            raise OutcomeUnknown(
                f"the connection to {describe()} broke during an insert; the jobs may be stored, "
                f"or not: {one_line(error)}"
            ) from error
        raise


def translate(error: Exception, database: str) -> SynkError:
    """Returns the error of `synk.errors` that stands for a psycopg error."""
    text = one_line(error)
    state = str(getattr(error, "sqlstate", None) or "")
    if state == "SY001":
        return _unknown_dependency(error)
    is_local = isinstance(error, (_pg.DataError, UnicodeEncodeError)) and not state
    if state.startswith(_REFUSED_VALUES) or is_local:
        # Without a state psycopg itself refuses, before anything was sent.
        return InvalidJob("job", text, "the database refuses this value")
    return _storage_error(error, state, database, text)


def _storage_error(error: Exception, state: str, database: str, text: str) -> StorageError:
    match error:
        case _pg.UndefinedTable() | _pg.InvalidSchemaName() | _pg.UndefinedColumn():
            return SchemaMismatch(f"{database} has no synk schema yet: run `synk migrate` ({text})")
        case _ if state in _CONFLICTS:
            return StorageConflict(f"{database} gave up on a statement: {text}")
        case psycopg_pool.PoolTimeout() | psycopg_pool.PoolClosed():
            return StorageUnavailable(f"no connection to {database}: {text}")
        case _ if is_of_no_use(error) or state.startswith(_FULL):
            return StorageUnavailable(f"cannot use {database}: {text}")
        case _:
            return StorageError(f"{database} refused: {text}")


def _unknown_dependency(error: Exception) -> UnknownDependency:
    detail = getattr(getattr(error, "diag", None), "message_detail", None)
    unknown = int(detail) if detail and detail.lstrip("-").isdigit() else detail
    return UnknownDependency("depends_on", unknown, "there is no such job")


def is_of_no_use(error: BaseException | None) -> bool:
    """Whether a psycopg error says that its connection, and others like it, lead nowhere."""
    state = str(getattr(error, "sqlstate", None) or "")
    if state:
        return state.startswith(_USELESS)
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))


def was_rolled_back(error: StorageConflict) -> bool:
    """Whether it was by no fault of the statement, which may succeed at once: 40001 and 40P01."""
    return isinstance(error.__cause__, (_pg.SerializationFailure, _pg.DeadlockDetected))


def one_line(error: Exception) -> str:
    """Returns an error's text on one line."""
    return " ".join(str(error).split())
