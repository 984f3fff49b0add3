"""Migrations after the package's own, as a later synk has them: for tests of upgrades."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest

from synk.storage import migrate, sql
from synk.storage.heartbeat import PostgresHeartbeat

BEFORE: Final = migrate.LATEST
"""The version that is upgraded: that of the code as it is."""

_FOLDERS: Final = (*sql.MIGRATIONS, Path(__file__).parents[1] / "storage" / "later")


@contextmanager
def later_code() -> Iterator[list[str]]:
    """Makes this process know later migrations; gives their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql, "MIGRATIONS", _FOLDERS)
        later = [f"{version:03} {name}" for version, name, _ in sql.migrations()[BEFORE + 1 :]]
        for place, name in ((migrate, "LATEST"), (PostgresHeartbeat, "schema_version")):
            patch.setattr(place, name, BEFORE + len(later))
        yield later


def at_version(dsn: str, version: int) -> str:
    """Brings a database there; 0 leaves it as it is."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        if version:
            migrate.apply(connection, up_to=version, with_roles=version >= BEFORE)
    return dsn
