"""The conformance suite: on PostgreSQL, on the model, and on an older PostgreSQL and schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.jobs.own_ends import completes_itself
from synk.storage.postgres import PostgresStorage
from synk.testing import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from synk.storage.base import Storage


class TestStorage(StorageConformance):
    def completes_itself(self, *args: Any) -> bool:
        return completes_itself(*args)

    @pytest.fixture
    def storage(self, any_storage: Storage) -> Storage:
        return any_storage


class TestPostgres15AndTheOldestSchema(StorageConformance):
    def completes_itself(self, *args: Any) -> bool:
        return completes_itself(*args)

    @pytest.fixture
    def storage(self, server15_dsn: str) -> Iterator[PostgresStorage]:
        storage = PostgresStorage(server15_dsn)
        yield storage
        storage.close()
