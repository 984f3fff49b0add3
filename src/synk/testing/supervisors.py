"""The contract: leases, rescue, and what supervisors say of themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from synk.claim import AckAnswer, Fence
from synk.failure import Cause
from synk.row import CancelReason, JobState
from synk.status import JobProgress, Lease
from synk.storage.statements import client_id_of
from synk.testing.making import (
    NOW,
    OTHER,
    OWNER,
    PAST,
    acknowledge,
    begun,
    claim,
    fail,
    get,
    insert,
    register,
    state_of,
    status_of,
)

if TYPE_CHECKING:
    from synk.storage.base import Storage


class SupervisorConformance:
    """How supervisors own jobs, and lose them: a test for each promise, hence so many."""

    # -- leases -----------------------------------------------------------------------------------

    def test_an_owner_without_a_lease_claims_nothing(self, storage: Storage) -> None:
        insert(storage)

        nobody = storage.get_job_available("default", 1, kinds=["kind"], owner=OTHER, claim_seq=1)
        register(storage, OTHER, NOW)
        too_late = storage.get_job_available("default", 1, kinds=["kind"], owner=OTHER, claim_seq=2)

        assert (nobody, too_late) == ([], [])
        assert len(claim(storage)) == 1

    def test_a_beat_renews_a_lease_even_if_it_ran_out(self, storage: Storage) -> None:
        register(storage, OWNER, NOW)
        register(storage, OTHER)

        with storage.heartbeat(OWNER) as heartbeat:
            beats = [heartbeat.beat(), heartbeat.beat()]

        assert None not in beats
        leases = {lease.owner: lease for lease in storage.leases()}
        assert (leases[OWNER].beat, leases[OTHER].beat) == (2, 0)
        assert (leases[OWNER].is_over, leases[OTHER].is_over) == (True, False)

    def test_the_first_lease_is_not_given_again(self, storage: Storage) -> None:
        register(storage, OWNER, NOW)
        register(storage, OWNER)

        (lease,) = storage.leases()
        assert lease.is_over

    def test_only_who_let_its_lease_run_out_can_be_declared_dead(self, storage: Storage) -> None:
        register(storage, OWNER, NOW)
        register(storage, OTHER)
        late, alive = sorted(storage.leases(), key=lambda lease: not lease.is_over)

        assert storage.declare_dead([alive]) == []
        assert storage.declare_dead([Lease(OWNER, late.beat + 1, is_over=True)]) == []
        assert storage.declare_dead([late, alive]) == [OWNER]
        assert storage.declare_dead([late]) == []
        assert [lease.owner for lease in storage.leases()] == [OTHER]

    def test_a_dead_or_stopped_owner_has_no_lease_any_more(self, storage: Storage) -> None:
        register(storage, OWNER, NOW)
        register(storage, OTHER)
        storage.declare_dead(storage.leases())
        storage.report_client(status_of(OTHER, stopped=True))
        insert(storage)

        for owner in (OWNER, OTHER):
            with storage.heartbeat(owner) as heartbeat:
                assert heartbeat.beat() is None
            assert claim(storage, owner=owner) == []
        assert storage.leases() == []

    def test_an_owner_that_is_not_on_record_has_no_lease(self, storage: Storage) -> None:
        with storage.heartbeat(OWNER) as heartbeat:
            assert heartbeat.beat() is None

    # -- rescue -----------------------------------------------------------------------------------

    def test_owners_that_will_never_act_again_are_found_by_their_jobs(
        self, storage: Storage
    ) -> None:
        insert(storage)
        insert(storage)
        claim(storage, 1)
        claim(storage, 1, owner=OTHER)
        assert storage.dead_owners() == []

        storage.report_client(status_of(OTHER, stopped=True))

        assert storage.dead_owners() == [OTHER]

    def test_jobs_of_the_dead_are_available_again_and_charged(self, storage: Storage) -> None:
        job_id = insert(storage)
        claim(storage)

        (rescued,) = storage.rescue([OWNER], 10)

        assert (rescued.job_id, rescued.attempt, rescued.state) == (job_id, 1, JobState.AVAILABLE)
        row = get(storage, job_id)
        assert (row.state, row.attempt, row.uncounted, row.lost) == (JobState.AVAILABLE, 1, 0, 1)
        (error,) = row.errors
        assert (error.cause, error.attempt) == (Cause.LOST, 1)
        assert error.supervisor == client_id_of(OWNER)
        assert error.host == status_of(OWNER).host
        assert error.at is not None

    def test_no_other_job_is_rescued(self, storage: Storage) -> None:
        insert(storage)
        insert(storage)
        (job,) = claim(storage, 1)
        (other,) = claim(storage, 1, owner=OTHER)
        acknowledge(storage, job)

        assert storage.rescue([OWNER], 10) == []
        assert storage.rescue([], 10) == []
        assert state_of(storage, other.id) is JobState.RUNNING

    def test_a_rescue_takes_at_most_its_limit(self, storage: Storage) -> None:
        for _ in range(5):
            insert(storage)
        claim(storage)

        assert [len(storage.rescue([OWNER], 2)) for _ in range(4)] == [2, 2, 1, 0]

    def test_the_outcome_of_a_rescued_attempt_is_fenced(self, storage: Storage) -> None:
        stale = begun(storage)
        storage.rescue([OWNER], 10)
        (job,) = claim(storage, owner=OTHER)
        before = get(storage, stale.id)

        assert acknowledge(storage, stale) is AckAnswer.FENCED
        assert get(storage, stale.id) == before
        assert acknowledge(storage, job, owner=OTHER) is AckAnswer.APPLIED

    def test_a_lost_job_that_is_not_to_run_again_is_over(self, storage: Storage) -> None:
        """One that has no attempts left, and one that was to be cancelled."""
        ids = insert(storage, max_retries=0), insert(storage)
        claim(storage)
        storage.cancel(ids[1])

        storage.rescue([OWNER], 10)

        rows = storage.get(ids)
        assert {row.state for row in rows} == {JobState.CANCELLED}
        assert [row.cancel_reason for row in rows] == [CancelReason.FAILED, CancelReason.REQUESTED]
        assert all(row.finalized_at is not None for row in rows)

    def test_a_job_that_loses_three_supervisors_is_poison(self, storage: Storage) -> None:
        job_id = insert(storage, max_retries=50)
        after = insert(storage, depends_on=(job_id,))
        for seq in range(1, 4):
            assert len(claim(storage, seq=seq)) == 1
            storage.rescue([OWNER], 10)

        row = get(storage, job_id)
        assert (row.state, row.cancel_reason) == (JobState.CANCELLED, CancelReason.POISON)
        assert [error.attempt for error in row.errors] == [1, 2, 3]
        assert get(storage, after).cancel_reason is CancelReason.DEPENDENCY

    def test_a_retried_job_may_lose_as_many_supervisors_again(self, storage: Storage) -> None:
        job_id = insert(storage, max_retries=50)
        for seq in range(1, 6):
            claim(storage, seq=seq)
            storage.rescue([OWNER], 10)
            if seq == 2:
                storage.cancel(job_id)
                storage.retry(job_id)

        row = get(storage, job_id)
        assert (row.lost, row.cancel_reason) == (3, CancelReason.POISON)
        assert row.attempt == 5

    def test_a_row_says_on_which_host_its_attempt_is_or_was(self, storage: Storage) -> None:
        job_id = insert(storage)
        waiting = get(storage, job_id).host
        (job,) = claim(storage)
        running = get(storage, job_id).host
        acknowledge(storage, job)

        hosts = (waiting, running, get(storage, job_id).host)

        assert hosts == (None, status_of(OWNER).host, status_of(OWNER).host)

    def test_a_supervisor_finds_all_its_running_jobs(self, storage: Storage) -> None:
        for _ in range(4):
            insert(storage)
        first = claim(storage, 1, seq=1)
        claim(storage, 1, owner=OTHER, seq=1)
        second = claim(storage, 1, seq=2)

        found = storage.running(OWNER)

        assert [(job.id, job.attempt, job.claim_seq, job.queue) for job in found] == [
            (job.id, 1, seq, "default") for seq, (job,) in ((1, first), (2, second))
        ]
        assert (found[0].kind, found[0].max_attempts, found[0].charged) == ("kind", 7, 1)

    # -- what supervisors say ---------------------------------------------------------------------

    def test_progress_of_a_running_job_is_kept_and_the_checkpoint_is_handed_on(
        self, storage: Storage
    ) -> None:
        job = begun(storage)
        fence = Fence(job.id, job.attempt, job.claim_seq)
        progress = '{"done": 1.0, "total": 4.0, "note": "n"}'

        assert storage.save_progress(OWNER, [JobProgress(fence, progress, '{"page": 7}')]) == 1
        assert storage.save_progress(OWNER, [JobProgress(fence, None, None)]) == 1

        row = get(storage, job.id)
        assert row.progress is not None
        assert (row.progress.done, row.progress.share, row.progress.note) == (1, 0.25, "n")
        assert row.checkpoint == {"page": 7}
        fail(storage, job, retry_at=PAST)
        storage.stage(10)
        (again,) = claim(storage, seq=2)
        assert again.history is not None
        assert json.loads(again.history)["checkpoint"] == {"page": 7}
        assert get(storage, job.id).progress is None

    def test_notes_outside_their_fence_change_nothing(self, storage: Storage) -> None:
        job = begun(storage)
        before = get(storage, job.id)
        notes = [
            JobProgress(Fence(job.id, 1, 9), '{"done": 1}', "1"),
            JobProgress(Fence(99, 1, 1), "1", "1"),
        ]

        assert storage.save_progress(OWNER, notes) == 0
        assert storage.save_progress(OTHER, [JobProgress(Fence(job.id, 1, 1), "1", "1")]) == 0
        assert get(storage, job.id) == before
