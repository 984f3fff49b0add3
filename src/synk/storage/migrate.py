"""Migrations: numbered SQL files, applied in order, forward only, each in a transaction.

Two that migrate at once do not meet: the second waits for an advisory lock, and then finds nothing
to do. A schema that is newer than this code is refused, since older code cannot know its rules.

A fleet is upgraded without a stop by new code first: it works on the schema of the version before
it too, beside supervisors of that version. Once all run it, the schema follows; a supervisor of the
old version that is left then drains and ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import tuple_row

from synk.errors import SchemaMismatch
from synk.storage import sql

if TYPE_CHECKING:
    import psycopg

LATEST: Final = 9
"""The schema version that this code works with."""

OLDEST: Final = 5
"""The oldest one that it works on as well. It rises with the first statement that needs more."""

_LOCK_ID: Final = 7_959_371_058_302
"""Any constant of our own; the same in every version, so that versions exclude each other."""


def apply(
    connection: psycopg.Connection[Any], schema: str = sql.DEFAULT_SCHEMA, *, up_to: int = LATEST
) -> list[str]:
    """Brings the schema up to date; returns the names of the migrations it applied.

    Args:
        connection: in autocommit mode; its role must be allowed to create the schema.
        schema: the schema's name.
        up_to: the last version to apply.

    Raises:
        SchemaMismatch: the database has a newer schema than this code.
    """
    base, *numbered = sql.migrations(schema)
    with connection.transaction():
        _lock(connection)
        connection.execute(base[2])
    applied: list[str] = []
    for version, name, text in numbered:
        with connection.transaction():
            _lock(connection)
            done = check_not_newer(_current(connection, schema), schema)
            if done < version <= up_to:
                connection.execute(text)
                connection.execute(sql.migration_note(schema), (version, name))
                applied.append(f"{version:03} {name}")
    return applied


def script(schema: str = sql.DEFAULT_SCHEMA) -> str:
    """Returns all migrations as one script for psql, for those who apply by hand."""
    parts: list[str] = []
    for version, name, text in sql.migrations(schema):
        body = text.replace("%%", "%").rstrip()
        note = f"INSERT INTO synk.migration (version, name) VALUES ({version}, '{name}');"  # noqa: S608 - both come from this package's file names
        note = sql.in_schema(note, schema)
        parts.append("\n".join(["BEGIN;", body, *([note] if version else []), "COMMIT;", ""]))
    return "\n".join(parts)


def check_not_newer(version: int, schema: str) -> int:
    """Returns *version* if this code knows it.

    Raises:
        SchemaMismatch: it is newer.
    """
    if version > LATEST:
        raise SchemaMismatch(
            f"schema {schema!r} is at version {version}, this synk knows {LATEST}: upgrade synk"
        )
    return version


def _current(connection: psycopg.Connection[Any], schema: str) -> int:
    with connection.cursor(row_factory=tuple_row) as cursor:  # the caller's may be any other
        row = cursor.execute(sql.migration_version(schema)).fetchone()
        return int(row[0] or 0) if row else 0


def _lock(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_ID,))
