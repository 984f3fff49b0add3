"""The database that a project has on the embedded server: one for each working folder.

As root there is one embedded server for the whole machine, and one for each user otherwise: without
this, the jobs of all projects would be in one table.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql as _sql
from psycopg.conninfo import make_conninfo

EMBEDDED: Final = "embedded"
"""The DSN of this user's server, on which each project has a database of its own."""

_NAME_CHARACTERS_MAX: Final = 40
"""Of the folder's name; with the digest that is below PostgreSQL's 63 bytes."""

_DIGEST_CHARACTERS: Final = 8

_log = logging.getLogger("synk")


def is_embedded(dsn: str) -> bool:
    """Tells whether *dsn* means the embedded server, well written or not."""
    return dsn == EMBEDDED or dsn.startswith(f"{EMBEDDED}:")


def working_folder() -> str | None:
    """Returns this process's working folder, or None if it has been removed."""
    try:
        return os.getcwd()  # noqa: PTH109 - a string is wanted
    except OSError:
        return None


def database_of(folder: str | None) -> str:
    """Returns the name of the database of the project in *folder*.

    It has the folder's name, and a digest of its whole path: folders of one name are two projects.
    Without a folder it is the server's own database.
    """
    if folder is None:
        return "postgres"
    path = os.path.realpath(folder)
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:_DIGEST_CHARACTERS]
    name = re.sub(r"[^a-z0-9]+", "_", Path(path).name.lower()).strip("_")
    return f"{name[:_NAME_CHARACTERS_MAX] or 'root'}_{digest}"


def connected_to(conninfo: str, database: str, place: Path) -> str:
    """Returns *conninfo* for that database, which is made if it is missing.

    Args:
        conninfo: of the server.
        database: its name.
        place: where the server keeps its data; told when the database is made.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        known = connection.execute("SELECT FROM pg_database WHERE datname = %s", (database,))
        if not known.rowcount:
            try:
                connection.execute(_sql.SQL("CREATE DATABASE {}").format(_sql.Identifier(database)))
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                pass  # another process of the project was quicker
            else:
                _log.info("made the database %s, whose data lies in %s", database, place)
    return make_conninfo(conninfo, dbname=database)
