"""Claims of jobs that have the key of a limit, and the permits that this supervisor takes for them.

A permit is held for as long as a process here may be at work for its key, which the pool alone
knows; the storage is told when one is not needed any more, and of all of them once the processes
are gone. Driven by who claims, between whose claims nothing of this happens: so a permit that the
pool gives up is one that no claim under way relies on.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from synk.core.keys import KeyRoom
from synk.core.messages import Claimed, Settle
from synk.core.ownership import fence_of
from synk.errors import SynkError
from synk.limit import Cap, cap_of, limits_by_name
from synk.retry import Verdict, judge
from synk.storage.limiting import Limiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from synk.claim import ClaimedJob
    from synk.config import QueueConfig
    from synk.core.claim_schedule import DueClaim
    from synk.limit import KeyedClaim, Limit
    from synk.registry import Registry
    from synk.runtime.supervisor.ack_loop import AckLoop
    from synk.runtime.supervisor.engine import Engine
    from synk.storage.base import Storage

FOREIGN_S: Final = 10.0
"""How often a queue is asked for jobs with keys of which no limit is known here: whoever stored
them knew one, as before a limit was taken out of the code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLimits:
    """The limits that this supervisor's workers and queues give."""

    by_kind: Mapping[str, Limit] = field(default_factory=dict[str, "Limit"])
    by_queue: Mapping[str, Limit] = field(default_factory=dict[str, "Limit"])

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.by_kind or self.by_queue)

    def of(self, job: ClaimedJob) -> Limit | None:
        """Returns the limit of a job: that of its kind, or else that of its queue."""
        return self.by_kind.get(job.kind) or self.by_queue.get(job.queue)

    def has_any_for(self, queue: str) -> bool:
        """Whether jobs of *queue* may have a limit."""
        return bool(self.by_kind) or queue in self.by_queue

    @property
    def caps(self) -> dict[str, Cap]:
        """What they say, by name."""
        limits = (*self.by_kind.values(), *self.by_queue.values())
        return {limit.name: limit.cap for limit in limits}


class KeyedClaims:
    """Claims keyed jobs for one supervisor, and keeps its permits.

    Args:
        storage: knows keys.
        engine: has the pool, which knows what is free.
        acks: takes what is given back.
        owner: whom it claims for.
        kinds: which jobs it may have, but for those with a weight.
        limits: what is known of limits here.
        processes: how many workers there are.
    """

    def __init__(
        self,
        storage: Limiting,
        engine: Engine,
        acks: AckLoop,
        owner: UUID,
        kinds: Sequence[str],
        *,
        limits: KnownLimits,
        processes: int,
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._acks = acks
        self._owner = owner
        self._kinds = kinds
        self._limits = limits
        self.has_limits_for = limits.has_any_for
        self._processes = processes
        self._caps: Mapping[str, Cap] = limits.caps
        self._may_have_permits = False
        """Whether any claim was made that may have taken some."""

    def set_limits(self, overrides: Mapping[str, Cap]) -> None:
        """Has *overrides* hold, by the names of limits and by keys, before what the code says.

        For any thread. What runs above a limit that was lowered is let go on.
        """
        caps = {**self._limits.caps, **overrides}
        self._caps = caps
        pool = self._engine.pool
        self._engine.call(lambda _: pool.keyed.limit(lambda key: cap_of(key, caps).running))

    # -- claiming ---------------------------------------------------------------------------------

    def claim(self, claim: DueClaim, clock: Callable[[], float]) -> tuple[KeyedClaim, Claimed]:
        """Claims once; returns what that brought, and what the pool is to be told of it.

        Raises:
            SynkError: nobody knows what it brought.
        """
        pool, caps = self._engine.pool, self._caps
        # So that no key gets more permits than there are workers that could use them.
        per_permit = -(-claim.limit // self._processes)
        room = self._engine.ask(
            lambda _: pool.keyed.room(per_permit, clock(), permits_max=self._processes)
        )
        held, full = (room.held, room.full) if room else (KeyRoom().held, ())
        self._may_have_permits = True
        found = self._storage.claim_keyed(
            claim.queue,
            claim.limit,
            kinds=claim.kinds or self._kinds,
            owner=self._owner,
            claim_seq=claim.seq,
            # Of these as many as it has are as many as there are to be had.
            caps={**caps, **dict.fromkeys(full, Cap(running=1))} if full else caps,
            held=held,
            per_permit=per_permit,
            after=claim.after_keys,
            bytes_max=claim.bytes_max,
        )
        capped = {key for key in set(found.keys) if cap_of(key, caps).running is not None}
        keys = {
            job.id: key for job, key in zip(found.jobs, found.keys, strict=True) if key in capped
        }
        return found, Claimed(found.jobs, keys, found.permits)

    def without_strays(self, jobs: Sequence[ClaimedJob]) -> Sequence[ClaimedJob]:
        """Returns those of *jobs*, which were claimed as plain ones, that have no limit.

        The others came from a writer that knew of none: they get their keys, and go back.
        """
        if not self._limits:
            return jobs
        strays = {job.id: limit for job in jobs if (limit := self._limits.of(job)) is not None}
        if not strays:
            return jobs
        limited = [job for job in jobs if job.id in strays]
        keyed: list[int] = []
        with contextlib.suppress(SynkError):
            # Those of which this is not known go back as they are, and come again.
            keyed = self._storage.key_jobs(
                self._owner, [fence_of(job) for job in limited], list(strays.values())
            )
        left = [judge(job, Verdict.RELEASED) for job in limited if job.id not in keyed]
        if left:
            self._acks.settle(Settle(ended=left))
        return [job for job in jobs if job.id not in strays]

    # -- permits ----------------------------------------------------------------------------------

    def give_back(self) -> None:
        """Gives back, in one statement, the permits that were free for long.

        Raises:
            SynkError: nobody knows whether they were given back; `compare` sees to it.
        """
        engine = self._engine
        given = engine.ask(lambda _: engine.pool.give_back_permits(engine.clock()))
        if given:
            self._storage.release_permits(self._owner, given)

    def compare(self) -> None:
        """Gives back permits that nobody here knows, and forgets those that the storage has not.

        The answer of a claim was lost with the first, and a fail-over has forgotten the others.

        Raises:
            SynkError: it is not done.
        """
        if not self._may_have_permits:
            return
        pool = self._engine.pool
        known = self._engine.ask(lambda _: set(pool.keyed.held()))
        if known is None:
            # The engine is on its way out: all of them are given back then.
            return
        stored = set(self._storage.permits(self._owner))
        if stored - known:
            self._storage.release_permits(self._owner, sorted(stored - known))
        if known - stored:
            self._engine.call(lambda _: pool.keyed.withdrawn(known - stored))

    def give_back_all(self) -> None:
        """Gives back all permits, once no process is left; if that fails, a rescuer does."""
        if self._may_have_permits:
            with contextlib.suppress(SynkError):
                if permits := self._storage.permits(self._owner):
                    self._storage.release_permits(self._owner, permits)


def keyed_claims_of(
    storage: Storage,
    engine: Engine,
    acks: AckLoop,
    owner: UUID,
    registry: Registry,
    queues: Mapping[str, QueueConfig],
    processes: int,
) -> KeyedClaims | None:
    """Returns what claims keyed jobs; None: the storage knows of no keys.

    Raises:
        ConfigurationError: two limits of one name say different things.
    """
    if not isinstance(storage, Limiting):
        return None
    by_queue = {name: queue.limit for name, queue in queues.items() if queue.limit is not None}
    limits = KnownLimits(by_kind=registry.limits, by_queue=by_queue)
    limits_by_name([*limits.by_kind.values(), *by_queue.values()])
    kinds = [kind for kind in registry.kinds if kind not in registry.weights]
    return KeyedClaims(storage, engine, acks, owner, kinds, limits=limits, processes=processes)
