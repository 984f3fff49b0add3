"""The contract of a storage that limits work: see `synk.storage.limiting`.

Apart from `StorageConformance`: a storage need not limit. Rates are PostgreSQL's alone so far.
Long, as the class is: a contract is read in one place.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from synk.claim import Fence
from synk.insertion import JobOptions, NewJob
from synk.limit import Cap, KeyedClaim, Limit, Permit
from synk.row import JobState, Priority
from synk.storage.base import Storage
from synk.storage.limiting import Limiting
from synk.testing.making import (
    NOW,
    OTHER,
    OWNER,
    acknowledge,
    claim,
    get,
    outcome_of,
    register,
    release,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from synk.claim import ClaimedJob

TENANT = Limit("tenant", key="args.tenant", running=2)
ONE = {"tenant": Cap(running=1)}
TWO = {"tenant": Cap(running=2)}


class LimitingStorage(Storage, Limiting, Protocol):
    """A storage that limits."""


def insert_for(storage: Storage, *tenants: str, limit: Limit = TENANT, **options: Any) -> list[int]:
    """Inserts a job for each of *tenants*, with the options; returns their ids."""
    return storage.insert(
        [
            NewJob(
                name="name",
                kind="kind",
                args=f'{{"tenant": "{tenant}"}}',
                options=JobOptions(**options),
                limit=limit,
            )
            for tenant in tenants
        ]
    )


def claim_keyed(
    storage: LimitingStorage, limit: int = 100, *, owner: UUID = OWNER, **asked: Any
) -> KeyedClaim:
    """Claims keyed jobs of the default queue, for an owner that has its lease."""
    register(storage, owner)
    given: dict[str, Any] = {"kinds": ("kind",), "claim_seq": 1, "caps": {}, **asked}
    return storage.claim_keyed("default", limit, owner=owner, **given)


def ids_of(claimed: KeyedClaim) -> list[int]:
    """Returns which jobs were claimed, the most urgent first."""
    return [job.id for job in claimed.jobs]


def fences_of(jobs: Sequence[ClaimedJob]) -> list[Fence]:
    """Returns what names the claims of *jobs*."""
    return [Fence(job.id, job.attempt, job.claim_seq) for job in jobs]


class LimitingConformance:
    """How keyed jobs are claimed, and what becomes of permits: a test for each promise."""

    # -- keys -------------------------------------------------------------------------------------

    def test_a_job_with_a_limit_is_claimed_by_its_key_only(self, storage: LimitingStorage) -> None:
        ids = insert_for(storage, "a", "b", "a")

        assert claim(storage) == []
        claimed = claim_keyed(storage)
        assert ids_of(claimed) == ids
        assert claimed.keys == ["tenant:a", "tenant:b", "tenant:a"]
        assert claimed.permits == []
        assert get(storage, ids[0]).state == JobState.RUNNING

    def test_a_limit_without_a_key_has_one_for_all(self, storage: LimitingStorage) -> None:
        insert_for(storage, "a", "b", limit=Limit("api", running=1))

        assert claim_keyed(storage).keys == ["api", "api"]

    def test_a_claim_brings_what_a_worker_needs(self, storage: LimitingStorage) -> None:
        (job_id,) = insert_for(storage, "a", queue="default", priority=Priority.HIGH)

        (job,) = claim_keyed(storage, claim_seq=7).jobs

        assert (job.id, job.attempt, job.kind, job.priority) == (job_id, 1, "kind", 2)
        assert (job.args, job.queue, job.claim_seq) == ('{"tenant": "a"}', "default", 7)
        assert acknowledge(storage, job) == "applied"

    def test_other_queues_and_kinds_are_left_alone(self, storage: LimitingStorage) -> None:
        insert_for(storage, "a", queue="slow")

        assert claim_keyed(storage).jobs == []
        assert claim_keyed(storage, kinds=("other",)).jobs == []

    def test_who_has_no_lease_claims_nothing_and_takes_no_permit(
        self, storage: LimitingStorage
    ) -> None:
        insert_for(storage, "a")
        storage.register_client(status_of(OTHER), NOW)

        claimed = storage.claim_keyed(
            "default", 10, kinds=("kind",), owner=OTHER, claim_seq=1, caps=ONE
        )

        assert not claimed.jobs
        assert storage.permits(OTHER) == []

    # -- permits ----------------------------------------------------------------------------------

    def test_no_more_is_claimed_than_there_are_permits(self, storage: LimitingStorage) -> None:
        ids = insert_for(storage, *"aaab")

        claimed = claim_keyed(storage, caps=TWO)

        assert ids_of(claimed) == [ids[0], ids[1], ids[3]]
        assert Counter(permit.key for permit in claimed.permits) == {"tenant:a": 2, "tenant:b": 1}
        assert storage.permits(OWNER) == sorted(claimed.permits)
        assert claim_keyed(storage, caps=TWO, owner=OTHER).jobs == []
        assert storage.permits(OTHER) == []

    def test_a_job_that_has_completed_frees_no_permit(self, storage: LimitingStorage) -> None:
        """Its process may go on; the supervisor knows when it is idle."""
        insert_for(storage, "a", "a")
        (job,) = claim_keyed(storage, caps=ONE).jobs

        acknowledge(storage, job)

        assert claim_keyed(storage, caps=ONE, owner=OTHER).jobs == []

    def test_a_permit_that_was_given_back_is_anybodys(self, storage: LimitingStorage) -> None:
        ids = insert_for(storage, "a", "a")
        claimed = claim_keyed(storage, caps=ONE)

        assert storage.release_permits(OWNER, claimed.permits) == 1
        assert storage.release_permits(OWNER, claimed.permits) == 0

        assert ids_of(claim_keyed(storage, caps=ONE, owner=OTHER)) == [ids[1]]

    def test_what_gives_a_permit_back_late_frees_none_that_was_taken_since(
        self, storage: LimitingStorage
    ) -> None:
        """Nobody waits for the answer any more, and the same supervisor has it again."""
        insert_for(storage, "a", "a", "a")
        former = claim_keyed(storage, caps=ONE, claim_seq=1).permits
        storage.release_permits(OWNER, former)
        again = claim_keyed(storage, caps=ONE, claim_seq=2).permits

        assert storage.release_permits(OWNER, former) == 0

        assert storage.permits(OWNER) == again
        assert claim_keyed(storage, caps=ONE, owner=OTHER).jobs == []
        assert storage.release_permits(OWNER, storage.permits(OWNER)) == 1

    def test_nobody_gives_back_what_is_anothers(self, storage: LimitingStorage) -> None:
        insert_for(storage, "a", "a")
        claimed = claim_keyed(storage, caps=ONE)
        register(storage, OTHER)

        assert storage.release_permits(OTHER, claimed.permits) == 0

        assert storage.permits(OWNER) == claimed.permits

    def test_what_is_held_has_room_for_more(self, storage: LimitingStorage) -> None:
        ids = insert_for(storage, *"aaaaa")
        claim_keyed(storage, caps=ONE)

        again = claim_keyed(storage, caps=ONE, held={"tenant:a": 1}, per_permit=3)

        assert ids_of(again) == ids[1:4]
        assert again.permits == []

    def test_what_is_believed_to_be_held_and_is_not_has_no_room(
        self, storage: LimitingStorage
    ) -> None:
        """After a fail-over that has lost a permit, which another one has by now."""
        insert_for(storage, "a", "a")
        claim_keyed(storage, caps=ONE)

        claimed = claim_keyed(storage, caps=ONE, owner=OTHER, held={"tenant:a": 1})

        assert claimed.jobs == []

    def test_a_permit_is_taken_for_many_short_jobs(self, storage: LimitingStorage) -> None:
        ids = insert_for(storage, *"aaaaa")

        claimed = claim_keyed(storage, caps=TWO, per_permit=2)

        assert ids_of(claimed) == ids[:4]
        assert len(claimed.permits) == 2

    def test_none_is_taken_without_a_job_for_it(self, storage: LimitingStorage) -> None:
        insert_for(storage, "a", "b", "b")

        claimed = claim_keyed(storage, 2, caps={"tenant": Cap(running=9)}, per_permit=1)

        assert len(claimed.permits) == len(claimed.jobs) == 2

    def test_a_key_of_its_own_has_a_limit_of_its_own(self, storage: LimitingStorage) -> None:
        insert_for(storage, *"aaabbb")

        claimed = claim_keyed(storage, caps={**TWO, "tenant:a": Cap(running=1)})

        assert Counter(claimed.keys) == {"tenant:a": 1, "tenant:b": 2}

    def test_a_lowered_limit_takes_no_more_until_enough_is_given_back(
        self, storage: LimitingStorage
    ) -> None:
        insert_for(storage, *"aaaa")
        claimed = claim_keyed(storage, caps={"tenant": Cap(running=3)})

        kept, *given = sorted(claimed.permits, key=lambda permit: permit.slot)

        assert claim_keyed(storage, caps=ONE, owner=OTHER).jobs == []
        storage.release_permits(OWNER, given)
        assert claim_keyed(storage, caps=ONE, owner=OTHER).jobs == []
        storage.release_permits(OWNER, [kept])
        assert len(claim_keyed(storage, caps=ONE, owner=OTHER).jobs) == 1

    def test_a_job_of_several_priorities_counts_once_for_its_key(
        self, storage: LimitingStorage
    ) -> None:
        low = insert_for(storage, "a", "a", priority=Priority.LOW)
        high = insert_for(storage, "a", priority=Priority.HIGH)

        claimed = claim_keyed(storage, caps=TWO)

        assert ids_of(claimed) == [high[0], low[0]]
        assert len(claimed.permits) == 2

    # -- fairness ---------------------------------------------------------------------------------

    def test_keys_share_a_claim(self, storage: LimitingStorage) -> None:
        insert_for(storage, *"aaaaaaaa")
        ids = insert_for(storage, "b", "c")

        claimed = claim_keyed(storage, 6)

        assert set(ids) < set(ids_of(claimed))

    def test_the_next_claim_goes_on_behind_the_last_key(self, storage: LimitingStorage) -> None:
        insert_for(storage, *"aabbccdd")

        keys: list[str] = []
        after: Any = None
        for _ in range(6):
            claimed = claim_keyed(storage, 1, after=after)
            after = claimed.next
            keys += claimed.keys

        assert [key[-1] for key in keys] == list("abcdab")

    def test_keys_that_have_no_room_are_passed_over(self, storage: LimitingStorage) -> None:
        """pg-boss 756: a saturated group at the head stalled all others."""
        insert_for(storage, *"aaaaaa")
        claim_keyed(storage, caps=ONE)
        (small,) = insert_for(storage, "b")

        assert ids_of(claim_keyed(storage, 1, caps=ONE)) == [small]

    def test_the_most_urgent_begin_first_whatever_their_key(self, storage: LimitingStorage) -> None:
        insert_for(storage, "a", "b", priority=Priority.LOW)
        (urgent,) = insert_for(storage, "c", priority=Priority.CRITICAL)

        assert ids_of(claim_keyed(storage, 1)) == [urgent]

    def test_hundreds_of_keys_are_come_to_in_turns(self, storage: LimitingStorage) -> None:
        tenants = [f"{number:03}" for number in range(200)]
        ids = insert_for(storage, *tenants)

        found: list[int] = []
        after: Any = None
        claims = 0
        while len(found) < len(ids):
            claimed = claim_keyed(storage, 500, after=after, caps=ONE)
            assert claimed.jobs
            after, claims = claimed.next, claims + 1
            found += ids_of(claimed)

        assert sorted(found) == ids
        assert claims == 4

    def test_more_keys_without_room_than_a_claim_looks_at_do_not_hide_one_that_has(
        self, storage: LimitingStorage
    ) -> None:
        insert_for(storage, *[f"{number:03}" for number in range(100)] * 2)
        claim_keyed(storage, 500, caps=ONE, after=claim_keyed(storage, 500, caps=ONE).next)
        (free,) = insert_for(storage, "zzz")

        first = claim_keyed(storage, 5, caps=ONE)
        second = claim_keyed(storage, 5, caps=ONE, after=first.next)

        assert first.is_cut
        assert [*ids_of(first), *ids_of(second)] == [free]

    # -- what becomes of the dead -----------------------------------------------------------------

    def test_permits_of_the_dead_go_with_their_jobs(self, storage: LimitingStorage) -> None:
        """solid_queue 761, 456, good_job: none leaks, and none waits for an expiry."""
        (job_id,) = insert_for(storage, "a")
        claim_keyed(storage, caps=ONE)
        storage.report_client(status_of(OWNER, stopped=True))

        assert storage.dead_owners() == [OWNER]
        assert [each.job_id for each in storage.rescue([OWNER], 10)] == [job_id]

        assert storage.permits(OWNER) == []
        assert ids_of(claim_keyed(storage, caps=ONE, owner=OTHER)) == [job_id]

    def test_permits_of_the_dead_without_jobs_go_too(self, storage: LimitingStorage) -> None:
        insert_for(storage, "a")
        (job,) = claim_keyed(storage, caps=ONE).jobs
        acknowledge(storage, job)
        storage.report_client(status_of(OWNER, stopped=True))

        assert storage.dead_owners() == [OWNER]
        assert storage.rescue([OWNER], 10) == []

        assert storage.permits(OWNER) == []
        assert storage.dead_owners() == []

    def test_what_a_dead_one_gives_back_late_is_not_taken_from_its_heir(
        self, storage: LimitingStorage
    ) -> None:
        """solid_queue 761: a limit of 1 ran 11 times after double releases."""
        insert_for(storage, "a", "a", "a")
        permits = claim_keyed(storage, caps=ONE).permits
        storage.report_client(status_of(OWNER, stopped=True))
        storage.rescue([OWNER], 10)
        claim_keyed(storage, caps=ONE, owner=OTHER)

        assert storage.release_permits(OWNER, permits) == 0

        assert len(storage.permits(OTHER)) == 1

    # -- jobs that came without their key ---------------------------------------------------------

    def test_a_job_without_its_key_gets_it_and_is_not_charged(
        self, storage: LimitingStorage
    ) -> None:
        (job_id,) = storage.insert(
            [NewJob(name="n", kind="kind", args='{"tenant": "a"}', options=JobOptions())]
        )
        jobs = claim(storage)

        assert storage.key_jobs(OWNER, fences_of(jobs), [TENANT]) == [job_id]

        row = get(storage, job_id)
        assert (row.state, row.attempt, row.uncounted) == (JobState.AVAILABLE, 1, 1)
        assert claim(storage, seq=2) == []
        assert claim_keyed(storage, claim_seq=3).keys == ["tenant:a"]

    def test_a_key_is_given_by_the_claim_that_has_the_job_only(
        self, storage: LimitingStorage
    ) -> None:
        storage.insert([NewJob(name="n", kind="kind", args="{}", options=JobOptions())])
        (job,) = claim(storage)
        release(storage, job)
        (again,) = claim(storage, seq=2)

        assert storage.key_jobs(OWNER, fences_of([job]), [Limit("x", running=1)]) == []

        assert acknowledge(storage, again) == "applied"

    def test_a_job_that_is_given_back_keeps_its_key(self, storage: LimitingStorage) -> None:
        insert_for(storage, "a")
        (job,) = claim_keyed(storage).jobs

        storage.update_job_state(OWNER, [outcome_of(job, JobState.AVAILABLE, uncharged=True)])

        assert claim_keyed(storage, claim_seq=2).keys == ["tenant:a"]

    # -- many at once -----------------------------------------------------------------------------

    def test_many_claimers_at_once_never_have_more_permits_than_the_limit(
        self, storage: LimitingStorage
    ) -> None:
        """PgQueuer 761: two that count and then claim each see room."""
        insert_for(storage, *"abc" * 60)
        owners = [type(OWNER)(int=OWNER.int + 10 + n) for n in range(8)]
        for owner in owners:
            register(storage, owner)
        held: Counter[str] = Counter()
        most: Counter[str] = Counter()
        lock = threading.Lock()
        done: list[int] = []

        def work(owner: UUID) -> None:
            while len(done) < 180:
                claimed = storage.claim_keyed(
                    "default", 4, kinds=("kind",), owner=owner, claim_seq=1, caps=TWO
                )
                with lock:
                    held.update(permit.key for permit in claimed.permits)
                    for key, count in held.items():
                        most[key] = max(most[key], count)
                    assert len(claimed.jobs) == len(claimed.permits)
                storage.update_job_state(owner, [outcome_of(job) for job in claimed.jobs])
                with lock:
                    held.subtract(permit.key for permit in claimed.permits)
                    done.extend(ids_of(claimed))
                storage.release_permits(owner, claimed.permits)

        threads = [threading.Thread(target=work, args=(owner,)) for owner in owners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert most == {"tenant:a": 2, "tenant:b": 2, "tenant:c": 2}
        assert len(done) == len(set(done)) == 180
        assert [storage.permits(owner) for owner in owners] == [[]] * 8

    def test_permits_are_listed_by_key_and_slot(self, storage: LimitingStorage) -> None:
        insert_for(storage, "b", "a", "a")

        claim_keyed(storage, caps=TWO)

        assert storage.permits(OWNER) == [
            Permit("tenant:a", 0, 1),
            Permit("tenant:a", 1, 1),
            *[each for each in storage.permits(OWNER) if each.key == "tenant:b"],
        ]
