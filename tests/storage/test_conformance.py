"""The conformance suite: on PostgreSQL, on the model, and on an older PostgreSQL and schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from own_ends import completes_itself
from synk.storage.postgres import PostgresStorage
from synk.testing import StorageConformance
from synk.testing.making import AN_HOUR, OWNER, insert, status_of

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

    def test_a_kind_that_waits_and_that_no_supervisor_of_its_queue_knows_is_found(
        self, storage: Storage
    ) -> None:
        """Not there: the oldest schema does not say what they know."""
        storage.register_client(status_of(OWNER, kinds=("a", "b")), AN_HOUR)
        insert(storage, kind="x")

        assert storage.unknown_kinds() == []
        assert [row.kinds for row in storage.clients(AN_HOUR)] == [None]

    def test_nothing_is_said_of_kinds_where_nobody_serves_or_one_does_not_say_what_it_knows(
        self, storage: Storage
    ) -> None:
        """As above."""

    def test_only_a_kind_that_could_run_now_is_said_to_be_unknown(self, storage: Storage) -> None:
        """As above."""

    @pytest.fixture
    def storage(self, server15_dsn: str) -> Iterator[PostgresStorage]:
        storage = PostgresStorage(server15_dsn)
        yield storage
        storage.close()
