"""Jobs that complete in a transaction of their own, in whichever storage they are."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from support.model import ModelStorage
from synk.attempt import Attempt
from synk.claim import ClaimedJob
from synk.core.ownership import fence_of
from synk.errors import LeaseLost
from synk.job import Job
from synk.status import client_id_of
from synk.storage.base import Storage
from synk.storage.postgres import PostgresStorage


def completes_itself(storage: Storage, owner: UUID, job: ClaimedJob, result: Any = None) -> bool:
    """Has a job do what `Job.complete_tx` does; returns whether it still may."""
    if isinstance(storage, ModelStorage):
        return storage.complete(owner, fence_of(job), result)
    assert isinstance(storage, PostgresStorage)
    attempt = Attempt()
    attempt.schema = storage.schema
    with storage.connector.connection() as connection:
        try:
            Job(job, None, client_id_of(owner), attempt).complete_tx(connection, result)
        except LeaseLost:
            return False
    return True
