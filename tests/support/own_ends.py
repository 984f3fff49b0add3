"""What is promised of jobs that complete in a transaction of their own.

Of synk's own storage, and of the model; a storage of one's own has no such jobs.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from support.jobs.own_ends import completes_itself
from synk.claim import AckAnswer
from synk.failure import AttemptError
from synk.row import JobState
from synk.storage.base import Storage
from synk.testing.making import (
    OTHER,
    OWNER,
    acknowledge,
    claim,
    get,
    insert,
    outcome_of,
    release,
)

ACCOUNT: Final[dict[str, Any]] = {
    "duration_us": 2_000_000,
    "cpu_us": 1_000_000,
    "system_us": 1_000_000,
    "peak_rss_bytes": 5,
    "pid": 77,
    "output": "said",
}
HALF: Final = '{"done": 1, "total": 2, "note": ""}'
A_SECOND: Final = dt.timedelta(seconds=1)


class OwnEnds:
    """Subclasses give a fixture ``storage``, as those of `StorageConformance` do."""

    def test_what_a_job_took_that_completed_itself_is_added(self, storage: Storage) -> None:
        insert(storage)
        job = claim(storage)[0]

        assert completes_itself(storage, OWNER, job, {"paid": True})
        before = get(storage, job.id)
        answer = acknowledge(storage, job, result='"of the handler"', progress=HALF, **ACCOUNT)

        row = get(storage, job.id)
        assert (before.state, before.duration, before.pid) == (JobState.COMPLETED, None, None)
        assert answer == AckAnswer.COMPLETED
        assert (row.result, row.finalized_at) == ({"paid": True}, before.finalized_at)
        assert (row.duration, row.cpu_time, row.system_time) == (2 * A_SECOND, A_SECOND, A_SECOND)
        assert (row.peak_rss_bytes, row.pid, row.output) == (5, 77, "said")
        assert row.progress is not None
        assert row.progress.done == 1
        assert acknowledge(storage, job, pid=78) == AckAnswer.DUPLICATE
        assert get(storage, job.id) == row

    def test_a_job_that_failed_after_it_completed_itself_stays_completed(
        self, storage: Storage
    ) -> None:
        insert(storage)
        job = claim(storage)[0]
        error = AttemptError(attempt=1, error="killed", output="its last words").to_json()
        ended: dict[str, Any] = {**ACCOUNT, "output": None, "crashed": True, "checkpoint": "1"}

        completes_itself(storage, OWNER, job, None)
        answer = acknowledge(storage, job, state=JobState.SCHEDULED, error=error, **ended)

        row = get(storage, job.id)
        assert (answer, row.state, row.errors) == (AckAnswer.COMPLETED, JobState.COMPLETED, [])
        assert (row.crashes, row.checkpoint, row.result) == (0, None, None)
        assert (row.duration, row.pid, row.output) == (2 * A_SECOND, 77, "its last words")

    def test_what_an_earlier_attempt_took_does_not_stand_for_one_that_completed_itself(
        self, storage: Storage
    ) -> None:
        insert(storage)
        acknowledge(storage, claim(storage)[0], state=JobState.AVAILABLE, **ACCOUNT)
        job = claim(storage, seq=2)[0]

        completes_itself(storage, OWNER, job, None)
        row = get(storage, job.id)
        acknowledge(storage, job, duration_us=7)

        assert (row.duration, row.cpu_time, row.system_time) == (None, None, None)
        assert (row.peak_rss_bytes, row.pid, row.output) == (None, None, "")
        row = get(storage, job.id)
        assert (row.duration, row.pid) == (dt.timedelta(microseconds=7), None)

    def test_nothing_is_added_to_what_was_begun_anew_or_deleted(self, storage: Storage) -> None:
        ids = [insert(storage) for _ in range(4)]
        jobs = claim(storage)
        for job in jobs:
            completes_itself(storage, OWNER, job, None)
        retried, cancelled, again, deleted = ids
        storage.delete(deleted)
        for job_id in (again, retried, cancelled):
            storage.retry(job_id)
            if job_id == again:
                completes_itself(storage, OTHER, claim(storage, owner=OTHER)[0], None)
        storage.cancel(cancelled)
        before = storage.get(ids)

        answers = storage.update_job_state(OWNER, [outcome_of(job, **ACCOUNT) for job in jobs])

        assert AckAnswer.COMPLETED not in answers
        assert answers[2:] == [AckAnswer.FENCED, AckAnswer.GONE]
        assert storage.get(ids) == before

    def test_only_the_attempt_that_completed_itself_adds_to_its_row(self, storage: Storage) -> None:
        insert(storage)
        stale = claim(storage, owner=OTHER, seq=1)[0]
        release(storage, stale, owner=OTHER)
        job = claim(storage, seq=2)[0]
        assert not completes_itself(storage, OTHER, stale, None)
        assert completes_itself(storage, OWNER, job, None)
        before = get(storage, job.id)

        for owner, each in [(OTHER, stale), (OWNER, stale), (OTHER, job)]:
            assert acknowledge(storage, each, owner=owner, **ACCOUNT) == AckAnswer.FENCED
        assert get(storage, job.id) == before
