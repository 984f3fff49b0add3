"""The conformance suite: on PostgreSQL, on the model, and on an older PostgreSQL and schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.own_ends import OwnEnds
from synk.storage.postgres import PostgresStorage
from synk.testing import StorageConformance, UniquenessConformance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from synk.storage.base import Storage


class TestStorage(StorageConformance, UniquenessConformance, OwnEnds):
    @pytest.fixture
    def storage(self, any_storage: Storage) -> Storage:
        return any_storage


class TestPostgres15AndTheOldestSchema(StorageConformance, UniquenessConformance, OwnEnds):
    @pytest.fixture
    def storage(self, server15_dsn: str) -> Iterator[PostgresStorage]:
        storage = PostgresStorage(server15_dsn)
        yield storage
        storage.close()
