"""Migrations after the package's own, as a later synk has them: for tests of upgrades."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psycopg
import pytest

from synk.storage import migrate, sql
from synk.storage.heartbeat import PostgresHeartbeat

BEFORE: Final = migrate.LATEST
"""The version that is upgraded: that of the code as it is."""

_LATER: Final = Path(__file__).parents[1] / "storage" / "later"
"""In order; they come behind the last of the package, whichever number that has."""


@contextmanager
def later_code() -> Iterator[list[str]]:
    """Makes this process know later migrations; gives their names."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        for place, file in enumerate(sorted(_LATER.glob("*.sql"))):
            numbered = f"{BEFORE + 1 + place:03}_{file.name.partition('_')[2]}"
            shutil.copy(file, Path(folder) / numbered)
        patch.setattr(sql, "MIGRATIONS", (*sql.MIGRATIONS, Path(folder)))
        later = [f"{n:03} {name}" for n, name, _ in sql.migrations() if n > BEFORE]
        for place, name in ((migrate, "LATEST"), (PostgresHeartbeat, "schema_version")):
            patch.setattr(place, name, BEFORE + len(later))
        yield later


def at_version(dsn: str, version: int) -> str:
    """Brings a database there; 0 leaves it as it is."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        if version:
            migrate.apply(connection, up_to=version, with_roles=version >= BEFORE)
    return dsn
