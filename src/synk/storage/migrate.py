"""Migrations: numbered SQL files, applied in order, forward only, each in a transaction.

Two that migrate at once do not meet: the second waits for the first, and then finds nothing to do.
A schema that is newer than this code is refused, since older code cannot know its rules.

A fleet is upgraded without a stop by new code first: it works on the schema of the version before
it too, beside supervisors of that version. Once all run it, the schema follows; a supervisor of the
old version that is left then drains and ends. A migration keeps nobody waiting: see
`synk.storage.patience`. What it asks for, of a table that may be large, is therefore short: a
constraint is added NOT VALID, and the rows that are there are looked at by a migration after it. An
index on such a table is built ahead of the transaction: see `synk.storage.ahead`.

Whose the schema is does not matter: what is there already and is not synk's is left alone, and what
may not be done is told with the SQL that does it.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from synk.errors import ConfigurationError, SchemaMismatch, StorageError
from synk.storage import ahead, sql
from synk.storage.made import Thing, made_on_the_way, named
from synk.storage.patience import PATIENCE_S, Patient, rows
from synk.storage.rights import belong, give_rights

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import psycopg

LATEST: Final = 10
"""The schema version that this code works with."""

OLDEST: Final = 10
"""The oldest one that it works on as well. It rises with the first statement that needs more."""

_COLUMNS: Final = ["version integer", "name text", "applied_at timestamp with time zone"]
"""Those of the table in which migrations are noted."""

_GO_COLUMNS: Final = (
    *("id bigint", "name text", "state job_state", "attempt smallint", "max_attempts smallint"),
    *(f"{name}_at timestamp with time zone" for name in ("attempted", "created", "finalized")),
    *("scheduled_at timestamp with time zone", "depends_on bigint[]", "priority smallint"),
    *("args jsonb",),
    *("attempted_by text[]", "errors jsonb[]", "kind text", "queue text"),
)
"""Those of the table that the Go package of the same name makes."""

_GO_STATES: Final = ("available", "cancelled", "completed", "running", "scheduled", "pending")

_AFTER_THE_TABLE: Final = "-- From here on the same where there was a table"
"""What comes behind its columns in 001_jobs.sql."""

_COLUMNS_OF: Final = re.compile(r"^-- columns of (\w+)$", re.MULTILINE)
"""In the place of columns of a table of the first schema: of those that are missing."""

_COLUMN: Final = re.compile(r"^    (?!id )([a-z]\w* .+?),?$", re.MULTILINE)
"""One of a table's, but its key."""

_MAKES: Final = re.compile(
    r"^CREATE (?:(FUNCTION|TRIGGER)|(UNIQUE INDEX|INDEX|UNLOGGED TABLE|TABLE))\b", re.MULTILINE
)
"""What may be there already in a schema that has tables."""

_NOTHING: Final = -1
"""The version of a schema in which nothing is noted."""

_FORMER: Final = -2
"""That of any schema of synk's before the first one."""


def apply(
    connection: psycopg.Connection[Any],
    schema: str = sql.DEFAULT_SCHEMA,
    *,
    up_to: int | None = None,
    with_roles: bool = True,
    tell: Callable[[str], None] | None = None,
    patience_s: float = PATIENCE_S,
) -> list[str]:
    """Brings the schema up to date; returns the names of the migrations it applied.

    Args:
        connection: in autocommit mode.
        schema: the schema's name.
        up_to: the last version to apply; None: `LATEST`.
        with_roles: whether the four roles are made, as far as that is allowed.
        tell: is given each line for people: what it waits for, what could not be done, what the
            server remarks. By default they go to the log.
        patience_s: how long to try for locks that others hold.

    Raises:
        SchemaMismatch: the database has a newer schema than this code.
        ConfigurationError: the schema has something that has a name of synk's and is not synk's.
        StorageConflict: the locks were not to be had.
    """
    up_to = LATEST if up_to is None else up_to
    tell = tell or logging.getLogger("synk").warning
    base, *numbered = sql.migrations(schema)
    patient = Patient(connection, schema, tell, patience_s)
    applied: list[str] = []
    with _told_notices(connection, tell):
        with connection.transaction():
            # One look, at all rows: between two another migration may make things.
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SET LOCAL row_security = off")
            done = _checked_version(connection, schema, up_to)
        adopts = done == _NOTHING and is_of_go(connection, schema)
        if adopts or done == _FORMER:
            how = "adopt" if adopts else "upgrade_former"
            applied += patient.run(partial(_apply_all, connection, schema, how, done))
        elif done == _NOTHING:
            patient.run(lambda: connection.execute(base[2].encode()))
        for version, name, text in numbered:
            if version > up_to or _version(connection, schema) >= version:
                continue
            rest = ahead.run(patient, text)
            if patient.run(partial(_apply_one, connection, schema, version, name, rest)):
                applied.append(f"{version:03} {name}")
        if with_roles:
            give_rights(patient, up_to)
    return applied


def _apply_one(
    connection: psycopg.Connection[Any], schema: str, version: int, name: str, text: str
) -> bool:
    if check_not_newer(_version(connection, schema), schema) >= version:
        return False
    connection.execute(whole(schema, version, name, text).encode())
    return True


def whole(schema: str, version: int, name: str, text: str) -> str:
    """Returns a migration with what is done of each: whose things are, and a note of it."""
    note = f"INSERT INTO synk.migration (version, name) VALUES ({version}, '{name}')"  # noqa: S608 - names of this package's files
    return f"{text.rstrip()}\n{belong(schema, version).rstrip()};\n{sql.in_schema(note, schema)};\n"


def _apply_all(connection: psycopg.Connection[Any], schema: str, how: str, found: int) -> list[str]:
    base, *numbered = sql.migrations(schema)
    if _version(connection, schema) != found:
        return []
    connection.execute((base[2] + all_from(schema, how)).encode())
    return [f"{version:03} {name}" for version, name, _ in numbered]


def all_from(schema: str, how: str) -> str:
    """Returns SQL that makes the newest schema of tables that are there, for one transaction.

    Args:
        schema: the schema's name.
        how: the statement that makes of them what 001_jobs.sql begins with: ``adopt`` of the Go
            package's table, ``upgrade_former`` of the tables that synk had before its first schema.
    """
    _, first, *others = sql.migrations(schema)
    _, mark, rest = first[2].partition(_AFTER_THE_TABLE)
    texts = [whole(schema, *first[:2], mark + rest)]
    texts += [whole(schema, *each[:2], ahead.in_one(each[2])) for each in others]
    kept = _MAKES.sub(
        lambda found: f"CREATE OR REPLACE {found[1]}" if found[1] else f"{found[0]} IF NOT EXISTS",
        "".join(texts),
    )
    made_alike = _COLUMNS_OF.sub(
        lambda table: _added(table[1], first[2] + "".join(texts)), sql.statement(how, schema)
    )
    # The server remarks on each that is there.
    return f"SET LOCAL client_min_messages = warning;\n{made_alike}\n{kept}"


def _added(table: str, migrations: str) -> str:
    """Returns what adds the columns that a table has in the migrations and lacks here."""
    _, _, behind = migrations.partition(f".{table} (\n")
    columns = _COLUMN.findall(behind[: behind.index("\n)")])
    return ",\n".join(f"    ADD COLUMN IF NOT EXISTS {column}" for column in columns)


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


# -- before anything is changed -------------------------------------------------------------------


def _checked_version(connection: psycopg.Connection[Any], schema: str, up_to: int) -> int:
    """Returns the version of a schema that can be brought up to date.

    Raises:
        SchemaMismatch: it is newer than this code.
        ConfigurationError: what synk would make is there, and is not synk's.
        StorageError: the role may not; the message has the SQL that allows it.
    """
    version = check_not_newer(_version(connection, schema), schema)
    if version == _FORMER:
        _check_rights(connection, schema, changes=True)
    elif version < up_to:
        adopts = version == _NOTHING and is_of_go(connection, schema)
        _check_rights(connection, schema, changes=adopts or version > 0)
        others = _others(connection, schema, made_on_the_way(schema, version, up_to))
        if adopts:
            others = [name for name in others if name not in ("table job", "type job_state")]
        if others:
            raise ConfigurationError(
                "schema",
                schema,
                f"has {', '.join(others)}, not made by synk, nor by the Go package as it makes "
                "them: give synk a schema of its own with --schema; nothing was changed",
            )
    return version


def _version(connection: psycopg.Connection[Any], schema: str) -> int:
    """Returns the newest migration that is noted; `_NOTHING` if there is no table of synk's.

    It is `_FORMER` for whichever of those before the first schema.
    """
    if _columns(connection, schema, "migration") != _COLUMNS:
        return _NOTHING
    query = f"SELECT {sql.IS_FORMER} FROM synk.migration AS m"  # noqa: S608 - a constant
    if rows(connection, sql.in_schema(query, schema))[0][0]:
        return _FORMER
    query = sql.in_schema("SELECT m.version, m.name FROM synk.migration AS m", schema)
    noted: dict[int, str] = dict(rows(connection, query))
    known = {version: name for version, name, _ in sql.migrations(schema)}
    if any(noted[version] != known[version] for version in noted.keys() & known.keys() - {0}):
        return _NOTHING
    return max(noted, default=0)


def is_of_go(connection: psycopg.Connection[Any], schema: str) -> bool:
    """Whether the table of jobs is the one that the Go package makes."""
    states = rows(
        connection,
        "SELECT e.enumlabel FROM pg_enum AS e JOIN pg_type AS t ON t.oid = e.enumtypid"
        " JOIN pg_namespace AS n ON n.oid = t.typnamespace"
        " WHERE n.nspname = %s AND t.typname = 'job_state' ORDER BY e.enumsortorder",
        (schema,),
    )
    found = (sorted(_columns(connection, schema, "job")), tuple(name for (name,) in states))
    return found == (sorted(_GO_COLUMNS), _GO_STATES)


def _columns(connection: psycopg.Connection[Any], schema: str, table: str) -> list[str]:
    """Returns the columns of a table, each with its type, wherever that is."""
    columns = rows(
        connection,
        "SELECT a.attname || ' ' || regexp_replace(format_type(a.atttypid, NULL), '^.*[.]', '')"
        " FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
        " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'r' AND a.attnum > 0"
        " AND NOT a.attisdropped ORDER BY a.attnum",
        (schema, table),
    )
    return [column for (column,) in columns]


def _others(connection: psycopg.Connection[Any], schema: str, things: list[Thing]) -> list[str]:
    """Returns what is there under names that synk is about to take."""
    functions = [f'"{schema}".{name}' for name in named(things, "FUNCTION") if '"' not in name]
    found = rows(
        connection,
        "SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'"
        " WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index'"
        " WHEN 'f' THEN 'foreign table' ELSE 'relation' END || ' ' || c.relname"
        " FROM pg_class AS c WHERE c.relnamespace = to_regnamespace(%(schema)s)"
        " AND c.relname = ANY (%(relations)s)"
        # But of a migration that did not get beyond what comes ahead of it.
        " AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indexrelid = c.oid"
        " AND c.relname = ANY (%(ahead)s)"
        " AND i.indrelid = to_regclass(%(schema)s || '.job'))"
        " UNION SELECT 'type ' || t.typname FROM pg_type AS t"
        " WHERE t.typnamespace = to_regnamespace(%(schema)s) AND t.typname = ANY (%(types)s)"
        " AND t.typrelid = 0"
        " UNION SELECT 'function ' || p.proname FROM pg_proc AS p"
        " WHERE p.oid IN (SELECT to_regprocedure(f) FROM unnest(%(functions)s::text[]) AS f)"
        " ORDER BY 1",
        {
            "schema": f'"{schema}"',
            "relations": named(things, "TABLE", "TYPE", "INDEX"),
            "types": named(things, "TYPE", "TABLE"),
            "functions": functions,
            "ahead": ahead.indexes(schema),
        },
    )
    return [name for (name,) in found]


def _check_rights(connection: psycopg.Connection[Any], schema: str, *, changes: bool) -> None:
    quoted = f'"{schema}"'
    ((me, is_there, may_make, may_use, owner, owns),) = rows(
        connection,
        "SELECT quote_ident(current_user), n.oid IS NOT NULL,"
        " has_database_privilege(current_database(), 'CREATE'),"
        " has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE'),"
        " quote_ident(pg_get_userbyid(c.relowner)),"
        " pg_has_role(c.relowner, 'USAGE')"
        " FROM (SELECT to_regnamespace(%s)::oid AS oid) AS n"
        " LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'job'",
        (quoted,),
    )
    if not is_there and not may_make:
        needs, remedy = f"make schema {schema}", f"CREATE SCHEMA {quoted} AUTHORIZATION {me}"
    elif is_there and not may_use:
        needs, remedy = f"create in it: {schema}", f"GRANT USAGE, CREATE ON SCHEMA {quoted} TO {me}"
    elif changes and owner is not None and not owns:
        needs, remedy = f"change the tables of {owner} in {schema}", f"GRANT {owner} TO {me}"
    else:
        return
    raise StorageError(
        f"role {me} may not {needs}; nothing was changed. Whoever may can allow it: {remedy};"
    )


@contextmanager
def _told_notices(
    connection: psycopg.Connection[Any], tell: Callable[[str], None]
) -> Generator[None]:
    """Passes on what the server remarks."""

    def told(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized in ("NOTICE", "WARNING"):
            tell(f"the server says: {diagnostic.message_primary}")

    connection.add_notice_handler(told)
    try:
        yield
    finally:
        connection.remove_notice_handler(told)
