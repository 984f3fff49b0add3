"""The contract: inserting, claiming, looking."""

from __future__ import annotations

import datetime as dt
import json
import threading
import uuid
from typing import TYPE_CHECKING

from synk.errors import InvalidJob, KeyReused, UnknownDependency
from synk.failure import AttemptError
from synk.insertion import InsertOptions
from synk.row import JobState, Priority
from synk.storage.statements import client_id_of
from synk.testing.making import (
    FUTURE,
    NO_JOB,
    OTHER,
    OWNER,
    PAST,
    acknowledge,
    claim,
    fail,
    get,
    insert,
    new_job,
    raised,
    state_of,
)

if TYPE_CHECKING:
    from synk.storage.base import Storage


class ClaimingConformance:
    """How jobs come in and are claimed: a test for each promise, hence so many."""

    # -- inserting --------------------------------------------------------------------------------

    def test_a_storage_that_is_ready_answers_a_ping(self, storage: Storage) -> None:
        storage.ping()

    def test_inserted_jobs_get_ascending_ids_in_their_order(self, storage: Storage) -> None:
        names = [f"job {number}" for number in range(500)]

        ids = storage.insert([new_job(name=name) for name in names])

        assert ids == sorted(set(ids))
        assert [row.name for row in storage.get(ids)] == names

    def test_a_row_says_what_was_inserted(self, storage: Storage) -> None:
        options = InsertOptions(
            queue="slow", priority=Priority.HIGH, max_retries=2, scheduled_at=FUTURE
        )
        args = '{"a": [1, 2.5, null], "ü": "\\u2028"}'

        row = get(storage, insert(storage, options, name="näme", kind="other", args=args))

        assert (row.name, row.kind, row.queue, row.priority) == ("näme", "other", "slow", 2)
        assert (row.args, row.scheduled_at) == (json.loads(args), FUTURE)
        assert (row.attempt, row.max_attempts, row.uncounted) == (0, 3, 0)
        assert (row.attempted_by, row.errors, row.depends_on, row.waiting_on) == ([], [], [], [])
        assert row.finalized_at is row.attempted_at is row.cancel_reason is row.result is None

    def test_a_job_starts_in_the_state_that_its_options_mean(self, storage: Storage) -> None:
        assert state_of(storage, insert(storage)) == JobState.AVAILABLE
        assert state_of(storage, insert(storage, scheduled_at=PAST)) == JobState.AVAILABLE
        assert state_of(storage, insert(storage, scheduled_at=FUTURE)) == JobState.SCHEDULED
        assert state_of(storage, insert(storage, pending=True)) == JobState.PENDING
        assert (
            state_of(storage, insert(storage, pending=True, scheduled_at=FUTURE))
            == JobState.PENDING
        )

    def test_jobs_are_stored_all_or_none(self, storage: Storage) -> None:
        bad = InsertOptions(depends_on=(NO_JOB,))

        error = raised(lambda: storage.insert([new_job(), new_job(options=bad), new_job()]))

        assert isinstance(error, UnknownDependency)
        assert error.value == NO_JOB
        assert claim(storage) == []

    def test_one_key_is_one_job_however_often_it_is_inserted(self, storage: Storage) -> None:
        keyed = new_job(options=InsertOptions(idempotency_key="once"))
        plain = new_job()

        (first,) = storage.insert([keyed])
        repeated = storage.insert([plain, keyed, plain])
        (alone,) = storage.insert([keyed])

        assert repeated[1] == alone == first
        assert len({first, *repeated}) == 3
        assert get(storage, first).idempotency_key == "once"
        assert len(claim(storage)) == 3

    def test_a_key_that_comes_twice_at_one_time_is_one_job(self, storage: Storage) -> None:
        keyed, other = (new_job(options=InsertOptions(idempotency_key=key)) for key in "ab")

        ids = storage.insert([keyed, new_job(), keyed, other, keyed])

        assert ids[0] == ids[2] == ids[4]
        assert len(set(ids)) == 3
        assert [job.id for job in claim(storage)] == sorted(set(ids))

    def test_a_key_of_another_job_is_refused_and_nothing_is_stored(self, storage: Storage) -> None:
        once = InsertOptions(idempotency_key="once")
        (first,) = storage.insert([new_job(args='{"a": 1, "b": 2}', options=once)])
        others = [
            new_job(args='{"a": 1, "b": 3}', options=once),
            new_job(kind="another", args='{"a": 1, "b": 2}', options=once),
        ]

        for other in others:
            for jobs in ([other], [new_job(), other]):
                error = raised(lambda jobs=jobs: storage.insert(jobs))
                assert isinstance(error, KeyReused)
                assert (error.value, error.job_id) == ("once", first)
        assert storage.insert([new_job(args='{"b": 2, "a": 1}', options=once)]) == [first]
        assert [job.id for job in claim(storage, kinds=["kind", "another"])] == [first]

    def test_two_jobs_of_one_key_at_one_time_must_be_the_same(self, storage: Storage) -> None:
        once = InsertOptions(idempotency_key="once")
        jobs = [new_job(args=f'{{"a": {number}}}', options=once) for number in range(2)]

        assert isinstance(raised(lambda: storage.insert(jobs)), InvalidJob)
        assert claim(storage) == []

    # -- claiming ---------------------------------------------------------------------------------

    def test_the_most_urgent_jobs_are_claimed_first(self, storage: Storage) -> None:
        """Each claim comes in that order too."""
        hour = dt.timedelta(hours=1)
        wanted = [(4, PAST), (1, PAST + hour), (3, PAST), (1, PAST), (1, PAST), (3, PAST - hour)]
        ids = [
            insert(storage, priority=Priority(priority), scheduled_at=at) for priority, at in wanted
        ]

        order = [job.id for limit in (1, 3, 10) for job in claim(storage, limit)]

        assert order == [ids[index] for index in (3, 4, 1, 5, 2, 0)]

    def test_a_claim_takes_at_most_its_limit(self, storage: Storage) -> None:
        storage.insert([new_job() for _ in range(5)])

        assert [len(claim(storage, 2)) for _ in range(4)] == [2, 2, 1, 0]

    def test_a_claim_ends_with_the_job_that_fills_its_bytes(self, storage: Storage) -> None:
        few, many = (json.dumps({"text": text}) for text in ("", "text " * 20_000))
        ids = storage.insert([new_job(args=args) for args in (few, many, many, few, many, many)])

        claims = [claim(storage, bytes_max=250_000), claim(storage, bytes_max=1), claim(storage)]

        assert [[job.id for job in jobs] for jobs in claims] == [ids[:5], ids[5:], []]

    def test_the_errors_of_earlier_attempts_count_as_bytes_of_a_claim(
        self, storage: Storage
    ) -> None:
        ids = storage.insert([new_job() for _ in range(4)])
        for job in claim(storage):
            error = AttemptError(attempt=1, error="E", trace="trace " * 8_000)
            acknowledge(
                storage, job, state=JobState.SCHEDULED, error=error.to_json(), retry_in_s=-1
            )
        storage.stage(10)

        claimed = claim(storage, bytes_max=5_000)

        assert [job.id for job in claimed] == ids[:1]

    def test_a_claim_begins_behind_its_cursors(self, storage: Storage) -> None:
        ids = [insert(storage, priority=Priority(n % 4 + 1)) for n in range(40)]
        first = claim(storage, 12)
        cursors = {job.priority: (job.scheduled_at, job.id) for job in first}
        fail(storage, first[0], retry_in_s=-3600)
        storage.stage(10)

        second = claim(storage, 28, after=cursors)

        assert [job.id for job in first + second] == [each for n in range(4) for each in ids[n::4]]
        assert claim(storage, 1, after=cursors) == []
        assert [job.id for job in claim(storage)] == [ids[0]]

    def test_only_due_jobs_of_the_queue_and_the_kinds_are_claimed(self, storage: Storage) -> None:
        insert(storage, queue="slow")
        insert(storage, kind="unknown")
        insert(storage, scheduled_at=FUTURE)
        insert(storage, pending=True)
        wanted = [insert(storage), insert(storage, kind="second")]

        claimed = claim(storage, kinds=["kind", "second"])

        assert [job.id for job in claimed] == wanted
        assert claim(storage, kinds=[]) == []

    def test_a_claimed_job_says_what_its_row_says(self, storage: Storage) -> None:
        job_id = insert(storage, args='{"a": 1}', name="a job", max_retries=2)

        job = claim(storage, seq=7)[0]

        row = get(storage, job_id)
        assert (row.state, row.attempt, row.attempted_by) == (
            JobState.RUNNING,
            1,
            [client_id_of(OWNER)],
        )
        assert (job.id, job.attempt, job.claim_seq, job.kind, job.queue, job.name) == (
            *(job_id, 1, 7, "kind", "default"),
            "a job",
        )
        assert (json.loads(job.args), job.max_attempts, job.uncounted) == ({"a": 1}, 3, 0)
        assert row.attempted_at is not None
        assert (job.priority, job.scheduled_at, job.created_at, job.attempted_at) == (
            row.priority,
            *(at.timestamp() for at in (row.scheduled_at, row.created_at, row.attempted_at)),
        )
        assert job.history is None

    def test_a_later_attempt_is_told_of_those_before(self, storage: Storage) -> None:
        insert(storage)
        fail(storage, claim(storage)[0], retry_in_s=0)
        storage.stage(10)

        job = claim(storage, owner=OTHER)[0]

        past = json.loads(job.history or "")
        assert past["attempted_by"] == [client_id_of(OWNER), client_id_of(OTHER)]
        assert [error["error"] for error in past["errors"]] == ["ValueError: 1"]
        assert job.attempt == 2

    def test_no_job_is_claimed_twice_by_threads_at_once(self, storage: Storage) -> None:
        ids = storage.insert([new_job() for _ in range(200)])
        claimed: list[int] = []
        start = threading.Barrier(4)

        def take(owner: uuid.UUID) -> None:
            start.wait()
            while jobs := claim(storage, 7, owner=owner):
                claimed.extend(job.id for job in jobs)

        threads = [threading.Thread(target=take, args=(uuid.uuid4(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(claimed) == ids

    # -- looking ----------------------------------------------------------------------------------

    def test_rows_come_by_id_and_missing_ones_are_left_out(self, storage: Storage) -> None:
        ids = storage.insert([new_job() for _ in range(3)])

        assert [row.id for row in storage.get([ids[2], NO_JOB, ids[0]])] == [ids[0], ids[2]]
        assert storage.get([]) == []
