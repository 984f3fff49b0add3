"""The conformance suite of storages that limit work, on PostgreSQL 18 and 15, and on the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.model import ModelStorage
from synk.storage.postgres import PostgresStorage
from synk.testing.limiting import LimitingConformance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.servers import Server


class TestPostgres(LimitingConformance):
    @pytest.fixture
    def storage(self, server: Server) -> Iterator[PostgresStorage]:
        storage = PostgresStorage(server.emptied())
        yield storage
        storage.close()


class TestModel(LimitingConformance):
    @pytest.fixture
    def storage(self) -> ModelStorage:
        return ModelStorage()


class TestPostgres15(LimitingConformance):
    @pytest.fixture
    def storage(self, server15_dsn: str) -> Iterator[PostgresStorage]:
        storage = PostgresStorage(server15_dsn)
        yield storage
        storage.close()
