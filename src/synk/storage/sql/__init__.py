"""The SQL of synk: one statement a file, one name for the file and for what it does.

What several have in common is a file that they include.

The files say ``synk`` for the schema; it is replaced by the configured schema's quoted name when
they are loaded. Values are always parameters.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final, cast

from synk.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import LiteralString

DEFAULT_SCHEMA: Final = "synk"

_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]{0,49}")
_INCLUDE: Final = re.compile(r"^-- include: (?P<name>\w+)\n", re.MULTILINE)
"""What several statements have in common is a file of its own."""

MIGRATIONS: Final = (resources.files(__name__).joinpath("migrations"),)
"""Where the numbered files are."""

IS_FORMER: Final = (
    "NOT coalesce(bool_or(m.version = 2 AND m.name = 'dependencies'), false)"
    " AND EXISTS (SELECT FROM pg_attribute AS a"
    " WHERE a.attrelid = to_regclass('synk.job') AND a.attname = 'waiting_on')"
)
"""Of synk.migration AS m: whether it is of the schema that synk had before its first one."""

_SCHEMA_IN_TEXT: Final = re.compile(
    r"\bsynk\b(?=\.)|(?<=CREATE SCHEMA )synk\b|(?<=to_regnamespace\(')synk\b"
)


def check_schema(schema: object) -> str:
    """Returns *schema* if it can be the name of the schema.

    Raises:
        ConfigurationError: not a plain lower-case identifier, or over 50 characters: the names of
            notification channels must fit too.
    """
    if not isinstance(schema, str) or _IDENTIFIER.fullmatch(schema) is None:
        raise ConfigurationError(
            "schema", schema, "must be letters a-z, digits and _, at most 50, no digit first"
        )
    return schema


@cache
def statement(name: str, schema: str = DEFAULT_SCHEMA) -> LiteralString:
    """Returns the text of ``name.sql`` for *schema*.

    The one cast to LiteralString: the text is a file of this package, and the only thing put into
    it is an identifier that `check_schema` let through.
    """
    return cast("LiteralString", in_schema(_text(name), schema))


def _text(name: str) -> str:
    text = resources.files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda found: _text(found["name"]), text)


def in_schema(text: str, schema: str) -> str:
    """Returns *text* with the schema's name put in."""
    return _SCHEMA_IN_TEXT.sub(f'"{check_schema(schema)}"', text)


def migrations(schema: str = DEFAULT_SCHEMA) -> list[tuple[int, str, str]]:
    """Returns (version, name, text) of every migration, in order."""
    files = [file for folder in MIGRATIONS for file in folder.iterdir()]
    named = sorted((file.name, file) for file in files if file.name.endswith(".sql"))
    return [
        (int(name[:3]), name[4:-4], in_schema(file.read_text(encoding="utf-8"), schema))
        for name, file in named
    ]


def channel(name: str, schema: str = DEFAULT_SCHEMA) -> str:
    """Returns the notification channel that the statements of *schema* use for *name*."""
    return in_schema(f"synk.{name}", schema)


def migration_version(schema: str = DEFAULT_SCHEMA) -> LiteralString:
    """Returns the text that asks for the newest migration applied; 0 before the first schema."""
    text = f"SELECT CASE WHEN {IS_FORMER} THEN 0 ELSE max(m.version) END FROM synk.migration AS m"  # noqa: S608 - a constant
    return cast("LiteralString", in_schema(text, schema))
