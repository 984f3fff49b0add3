"""The part of a storage that limits work: keyed jobs, permits and rates.

Not of the contract in `synk.storage.base`: a storage without it runs every job but those that have
a limit, and a client that gives one is refused.

A keyed job is one that has a ``limit_key``. Plain claims never see it: it is claimed by
`Limiting.claim_keyed`, under a permit of its key where `Cap.running` says so. A permit is a row
(key, slot) of one supervisor, and the slots of a key are as many as the limit: so no two claims can
take more together, whatever they see of each other. It is held while a process is at work for the
key, not while a row says that a job runs, and given back by `release_permits`; those of a dead
supervisor go in the transaction that rescues its jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from synk.claim import Fence
    from synk.limit import Cap, KeyedClaim, KeyedCursor, Limit, Permit
    from synk.limit_status import LimitedKeys


@runtime_checkable
class Limiting(Protocol):
    """What is asked of keyed jobs and their permits.

    Each method is one transaction, and raises what those of `Storage` do.
    """

    def claim_keyed(  # noqa: PLR0913 - what it asks for, by name
        self,
        queue: str,
        limit: int,
        *,
        kinds: Sequence[str],
        owner: UUID,
        claim_seq: int,
        caps: Mapping[str, Cap],
        held: Mapping[str, int] | None = None,
        per_permit: int = 1,
        after: KeyedCursor | None = None,
        bytes_max: int | None = None,
    ) -> KeyedClaim:
        """Claims up to *limit* due jobs of *queue* that have a key, as `get_job_available` does.

        By priority; within one the keys take turns, at most 64 of them a claim, from *after* on and
        around; within a key by time, then by id. What it costs does not grow with what waits.

        No more of a key than its permits have room for, *per_permit* each: those that *held* says
        the owner has and that are free for that, and those that it takes now, of the slots below
        the limit that are free. It takes none for which it has no job. Nor more than the key's rate
        lets begin now: what was claimed has begun, for the rate. An owner whose lease is over gets
        nothing.

        If the answer is lost, `running` tells what was claimed, and `permits` what was taken.

        Args:
            queue: where the jobs wait.
            limit: how many jobs at the most.
            kinds: which of them.
            owner: the supervisor, which must hold its lease.
            claim_seq: the number of the claim, of those of this supervisor.
            caps: what holds for keys, and for limits by name: the key's own comes first. A key that
                is in neither way among them has no cap, and takes its turn.
            held: by key, how many of the owner's permits have room for *per_permit* jobs. Of those
                that the storage does not know, as after a fail-over, none has.
            per_permit: jobs that one process may do in a row under one permit; short ones many.
            after: the `KeyedClaim.next` of the last claim of this queue.
            bytes_max: as in `get_job_available`.
        """
        ...

    def release_permits(self, owner: UUID, permits: Sequence[Permit]) -> int:
        """Gives back those of *permits* that *owner* has; returns how many it had.

        Where jobs of such a key wait, it is announced for their queues. Safe to repeat, and to come
        late: one that was given back and taken again is another one, of a later claim.
        """
        ...

    def permits(self, owner: UUID) -> list[Permit]:
        """Returns the permits that *owner* holds, by key and slot."""
        ...

    def key_jobs(self, owner: UUID, fences: Sequence[Fence], limits: Sequence[Limit]) -> list[int]:
        """Gives jobs back that were claimed without the key that they must have; says which.

        Each of *owner*'s jobs by its place in *fences*, with its limit at the same place of
        *limits*: it gets its key and is available again, and the attempt is not charged. It must
        not have begun. One that somebody cancelled meanwhile is cancelled. Those that are not this
        claim's any more are left out, and those that somebody else has locked.
        """
        ...


@runtime_checkable
class LimitInspection(Protocol):
    """What can be seen of limits."""

    def limited_keys(self) -> LimitedKeys:
        """Returns the keys of which jobs wait or permits are taken.

        At a cost that does not grow with the number of jobs: some hundreds of keys of what waits.
        """
        ...
