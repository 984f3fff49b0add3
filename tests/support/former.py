"""Databases as synk made them before its first schema, by the migrations that it had then."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psycopg

from synk.storage import sql

_FILES: Final = sorted(Path(__file__).parents[1].joinpath("storage", "former").glob("*.sql"))

VERSIONS: Final = range(1, len(_FILES))


def make(dsn: str, version: int, schema: str = sql.DEFAULT_SCHEMA) -> None:
    """Makes the schema as it was at that version."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number, file in enumerate(_FILES[: version + 1]):
            connection.execute(sql.in_schema(file.read_text(), schema).encode())
            note = "INSERT INTO synk.migration (version, name) VALUES (%s, %s)"
            if number:
                connection.execute(sql.in_schema(note, schema).encode(), (number, file.stem[4:]))
