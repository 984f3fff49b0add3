"""What a migration does ahead of its transaction: indexes on tables that may be large.

An index that is built in a transaction keeps writers out for as long as it takes. So a migration
whose text has the line `MARK` has what comes before it done first, each statement by itself: new
columns, which take a moment, and indexes, built while everybody goes on. The rest follows in one
transaction, in which the migration is noted. So each statement ahead can be repeated: where it is
done, it does nothing, and an index that was left half-built is built anew.

Where the table has no rows, all is done in the one transaction: to build an index otherwise waits
for the end of all that is open in the database.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from synk.errors import StorageConflict
from synk.storage import sql
from synk.storage.patience import LOCK_ID, Patient, rows

if TYPE_CHECKING:
    from collections.abc import Generator

    import psycopg

MARK: Final = "-- From here on in one transaction.\n"

_BY_ITSELF: Final = " CONCURRENTLY IF NOT EXISTS"
_INDEX: Final = re.compile(rf"^CREATE (?:UNIQUE )?INDEX{_BY_ITSELF} (?P<name>\w+)")
_COMMENT: Final = re.compile(r"--[^\n]*\n")
_LOCK_ID: Final = LOCK_ID + 1
_PAUSE_S: Final = 0.5
_TIMEOUTS: Final = ("statement_timeout", "lock_timeout", "transaction_timeout")


def parts(text: str) -> tuple[list[str], str]:
    """Returns the statements of a migration that come ahead, and the rest."""
    ahead, mark, rest = text.partition(MARK)
    if not mark:
        return [], text
    statements = _COMMENT.sub("", ahead).split(";")
    return [each.strip() for each in statements if each.strip()], rest


def in_one(text: str) -> str:
    """Returns all of a migration for one transaction."""
    return text.replace(_BY_ITSELF, "")


def is_index(statement: str) -> bool:
    """Whether a statement that comes ahead builds an index, which no transaction can hold."""
    return _INDEX.match(statement) is not None


def indexes(schema: str) -> list[str]:
    """Returns the names of all indexes that are built ahead."""
    statements = [each for _, _, text in sql.migrations(schema) for each in parts(text)[0]]
    return [found["name"] for found in map(_INDEX.match, statements) if found]


def run(patient: Patient, text: str) -> str:
    """Does what comes ahead in a migration; returns what is left to be done in one transaction.

    Raises:
        StorageConflict: its locks were not to be had.
    """
    ahead, rest = parts(text)
    if not ahead or not _has_rows(patient):
        return in_one(text)
    for statement in ahead:
        if is_index(statement):
            _build(patient, statement)
        else:
            patient.run(partial(patient.connection.execute, statement.encode()))
    return rest


def _has_rows(patient: Patient) -> bool:
    query = sql.in_schema("SELECT EXISTS (SELECT FROM synk.job)", patient.schema)
    return rows(patient.connection, query)[0][0]


def _build(patient: Patient, statement: str) -> None:
    found = _INDEX.match(statement)
    assert found is not None  # noqa: S101 - `is_index` said so
    name = f'"{patient.schema}"."{found["name"]}"'
    state = f"SELECT i.indisvalid FROM pg_index AS i WHERE i.indexrelid = to_regclass('{name}')"  # noqa: S608 - names of this package's files
    with _alone(patient):
        states = rows(patient.connection, state)
        if states == [(False,)]:
            patient.connection.execute(f"DROP INDEX CONCURRENTLY {name}".encode())
        if states != [(True,)]:
            patient.connection.execute(statement.encode())


@contextmanager
def _alone(patient: Patient) -> Generator[None]:
    """Nobody else builds meanwhile, and no time limit ends it."""
    connection = patient.connection
    deadline = time.monotonic() + patient.patience_s
    # Not by waiting for the lock: who waits in a statement is waited for by who builds.
    while not rows(connection, "SELECT pg_try_advisory_lock(%s)", (_LOCK_ID,))[0][0]:
        if time.monotonic() > deadline:
            raise StorageConflict("another migration builds an index, and did not end")
        time.sleep(_PAUSE_S)
    known = rows(
        connection,
        "SELECT s.name, current_setting(s.name) FROM pg_settings AS s WHERE s.name = ANY (%s)",
        (list(_TIMEOUTS),),
    )
    try:
        _set(connection, [(name, "0") for name, _ in known])
        yield
    finally:
        if not connection.closed:
            _set(connection, known)
            rows(connection, "SELECT pg_advisory_unlock(%s)", (_LOCK_ID,))


def _set(connection: psycopg.Connection[Any], settings: list[tuple[str, str]]) -> None:
    for setting in settings:
        rows(connection, "SELECT set_config(%s, %s, false)", setting)
