"""What psycopg raises, and what synk makes of it: one table by SQLSTATE.

class or state          means                                     becomes
----------------------  ----------------------------------------  -------------------------------
08, 57P, 25006,         the connection, or its server, is of no    StorageUnavailable, and the
no state                more use                                  pool is dropped
53, 54, 55, 57, 58, 25, no room, a limit, a broken file, a         StorageUnavailable
XX                      sequence or server that is not ready
23505 on the key        the sequence is behind its table           StorageUnavailable
40, 55P03, 57014,       rolled back, a lock not had in time, or    StorageConflict
25P04                   too slow
22, if no function of   a value is refused                         InvalidJob
another's raised it
23, on synk's jobs      a value breaks a rule of the table         InvalidJob
no state, when sent     a value that psycopg cannot send           InvalidJob
3F000, 42P01, 42703     the schema is not there                    SchemaMismatch
SY001                   a dependency does not exist                UnknownDependency
SY004                   the key is that of another job             KeyReused
SY005                   another job is in the unique scope         NotUnique
no state, when read     an answer that nobody can read             StorageError
anything else           the server refused                         StorageError

Only what is certainly said of a value of the caller's is InvalidJob: a value may be left out then.

Around an insert, what ends a connection after it may have been committed (no state, 08xxx, 57P01,
57P02) becomes OutcomeUnknown.

What follows: a supervisor waits for what is unavailable and goes on, repeats what was in conflict
with fewer jobs for a while, and halves what is refused until the one to blame is alone. A producer
gets the error, but for an insert that may be repeated.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
import psycopg_pool
from psycopg import errors as _pg

from synk.errors import (
    InvalidJob,
    KeyReused,
    NotUnique,
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

_CONFLICTS: Final = ("40", "55P03", "57014", "25P04")
_USELESS: Final = ("08", "57P", "25006")
_UNANSWERED: Final = ("08", "57P01", "57P02", "40003")
_PASSING: Final = ("53", "54", "55", "57", "58", "25", "XX")
"""No fault of a value, whatever the statement was: it is worth another try."""

_REFUSED_VALUES: Final = "22"
_BROKEN_RULES: Final = "23"

_OF_A_FUNCTION: Final = re.compile(r"""^[^:\uff1a'"]*(SQL|PL/)""", re.MULTILINE)
"""A line of the server's, in whichever language, that names a function or its statement, in
whichever language; not one that quotes a value: before the quote there is a colon."""

_JOBS: Final = "job"
_JOBS_KEY: Final = "job_pkey"

_ADVICE: Final = {
    "PreCommit_Notify": "a session listens in a transaction that it does not end, so that no "
    "notification can be removed: end it (see pg_stat_activity), and "
    "SELECT pg_notification_queue_usage()",
    "XX001": "a page is damaged: look at the server's log, restore from a backup",
    "XX002": "an index is damaged: REINDEX it",
}
"""What to do, by SQLSTATE or by the server's function that refused."""


class Unreadable(Exception):  # noqa: N818 - what it says of an answer
    """An answer of the server that psycopg or synk cannot read."""


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
        Unreadable,
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
    if state == "SY004":
        return _key_reused(error)
    if state == "SY005":
        return NotUnique(int(getattr(getattr(error, "diag", None), "message_detail", None) or 0))
    if isinstance(error, Unreadable):
        return StorageError(f"cannot read what {database} answered: {text}")
    if _is_of_a_value(error, state):
        return InvalidJob("job", text, "the database refuses this value")
    return _storage_error(error, state, database, text)


def _is_of_a_value(error: Exception, state: str) -> bool:
    """Whether it is certain that a value of the caller's is refused, and nothing else."""
    if not state:
        # psycopg itself refuses, before anything was sent.
        return isinstance(error, (_pg.DataError, UnicodeEncodeError))
    diag = error.diag if isinstance(error, psycopg.Error) else None
    if diag is None:
        return False
    if state.startswith(_BROKEN_RULES):
        return diag.table_name == _JOBS and not _is_behind(error)
    # What a function of the database's owner computes, in a trigger, says nothing of the value.
    return state.startswith(_REFUSED_VALUES) and not _OF_A_FUNCTION.search(diag.context or "")


def _is_behind(error: Exception) -> bool:
    """Whether the table has rows already that its sequence has yet to come to."""
    return (
        isinstance(error, _pg.UniqueViolation)
        and error.diag.table_name == _JOBS
        and error.diag.constraint_name == _JOBS_KEY
    )


def _storage_error(error: Exception, state: str, database: str, text: str) -> StorageError:
    if _is_passing(error, state):
        return _refused_for_now(f"cannot use {database}: {text}{_advice(error, state)}")
    match error:
        case _pg.UndefinedTable() | _pg.InvalidSchemaName() | _pg.UndefinedColumn():
            return SchemaMismatch(f"{database} has no synk schema yet: run `synk migrate` ({text})")
        case psycopg_pool.PoolTimeout() | psycopg_pool.PoolClosed():
            return StorageUnavailable(f"no connection to {database}: {text}")
        case _ if state.startswith(_CONFLICTS):
            return StorageConflict(f"{database} gave up on a statement: {text}")
        case _ if is_of_no_use(error):
            return StorageUnavailable(f"cannot use {database}: {text}")
        case _:
            return StorageError(f"{database} refused: {text}")


def _is_passing(error: Exception, state: str) -> bool:
    if state.startswith(_CONFLICTS) or is_of_no_use(error):
        return False
    return state.startswith(_PASSING) or _is_behind(error)


def _refused_for_now(message: str) -> StorageUnavailable:
    unavailable = StorageUnavailable(message)
    unavailable.has_answered = True
    return unavailable


def _advice(error: Exception, state: str) -> str:
    diag = error.diag if isinstance(error, psycopg.Error) else None
    if diag is not None and _is_behind(error):
        table = f"{diag.schema_name}.{diag.table_name}"
        return (
            "; its sequence is behind, as after a restore: SELECT "  # noqa: S608 - words for people
            f"setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
        )
    known = _ADVICE.get(state) or _ADVICE.get((diag and diag.source_function) or "")
    return f"; {known}" if known else ""


def _unknown_dependency(error: Exception) -> UnknownDependency:
    detail = getattr(getattr(error, "diag", None), "message_detail", None)
    unknown = int(detail) if detail and detail.lstrip("-").isdigit() else detail
    return UnknownDependency("depends_on", unknown, "there is no such job")


def _key_reused(error: Exception) -> KeyReused:
    found = json.loads(getattr(getattr(error, "diag", None), "message_detail", None) or "{}")
    problem = "which is of another kind" if found["is_kind"] else "which has other arguments"
    return KeyReused(found["key"], found["job_id"], problem)


def is_of_no_use(error: BaseException | None) -> bool:
    """Whether a psycopg error says that its connection, and others like it, lead nowhere."""
    state = str(getattr(error, "sqlstate", None) or "")
    if state:
        return state.startswith(_USELESS)
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))


def was_rolled_back(error: StorageConflict) -> bool:
    """Whether it was by no fault of the statement, which may succeed at once: 40001 and 40P01."""
    return isinstance(error.__cause__, (_pg.SerializationFailure, _pg.DeadlockDetected))


def may_be_of_a_value(error: StorageError | InvalidJob) -> bool:
    """Whether a value was refused (22), or a limit of the server's was met (54).

    Either may be the value's fault, or that of the server, or of somebody's function in it.
    """
    return str(getattr(error.__cause__, "sqlstate", None) or "").startswith(("22", "54"))


def one_line(error: Exception) -> str:
    """Returns an error's text on one line."""
    return " ".join(str(error).split())
