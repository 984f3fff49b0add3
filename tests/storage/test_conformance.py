"""The conformance suite: on PostgreSQL, on the model, and on an older PostgreSQL and schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from own_ends import completes_itself
from synk.insertion import InsertOptions
from synk.storage.postgres import PostgresStorage
from synk.testing import StorageConformance
from synk.testing.making import new_job

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

    @pytest.mark.skip(reason="the oldest schema keeps what the attempt before took")
    def test_what_an_earlier_attempt_took_does_not_stand_for_one_that_completed_itself(
        self, storage: Storage
    ) -> None: ...

    @pytest.fixture
    def storage(self, server15_dsn: str) -> Iterator[PostgresStorage]:
        storage = PostgresStorage(server15_dsn)
        yield storage
        storage.close()

    def test_a_key_of_another_job_is_refused_and_nothing_is_stored(self, storage: Storage) -> None:
        """Not before the schema is upgraded: till then the job that has the key is the answer."""
        once = InsertOptions(idempotency_key="once")
        (first,) = storage.insert([new_job(options=once)])

        assert storage.insert([new_job(kind="another", options=once)]) == [first]
