"""Claims of jobs that have the key of a limit, and the permits that this supervisor takes for them.

A permit is held for as long as a process here may be at work for its key, which the pool alone
knows; the storage is told when one is not needed any more, and of all of them once the processes
are gone. Driven by who claims, between whose claims nothing of this happens: so a permit that the
pool gives up is one that no claim under way relies on.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from synk.config import known_limits
from synk.core.keys import KeyRoom
from synk.core.messages import Claimed, Settle
from synk.core.ownership import fence_of
from synk.errors import SynkError
from synk.limit import Cap, KeyedClaim, Limits, cap_of
from synk.limit_words import LimitWords
from synk.retry import Verdict, judge
from synk.storage.limiting import Limiting
from synk.storage.settings import RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from uuid import UUID

    from synk.claim import ClaimedJob
    from synk.config import QueueConfig
    from synk.core.claim_schedule import DueClaim
    from synk.registry import Registry
    from synk.runtime.supervisor.ack_loop import AckLoop
    from synk.runtime.supervisor.engine import Engine
    from synk.setting import SettingChange, Settings
    from synk.storage.base import Storage

FOREIGN_S: Final = 10.0
"""How often a queue is asked for jobs with keys of which no limit is known here: whoever stored
them knew one, as before a limit was taken out of the code."""


SHORT_S: Final = 0.05
"""Jobs up to this duration are claimed ahead for a permit."""


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
        limits: Limits,
        processes: int,
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._acks = acks
        self._owner = owner
        self._kinds = kinds
        self._limits = limits
        self._processes = processes
        self._caps: Mapping[str, Cap] = limits.caps
        self._undeclared: Sequence[SettingChange] | None = None
        """What is to be told of limits here; None: it is not known yet what was told."""
        self._is_turn_of_long = False
        self._may_have_permits = False
        """Whether any claim was made that may have taken some."""

    def has_limits_for(self, queue: str) -> bool:
        """Whether jobs of *queue* may have a limit."""
        return self._limits.has_any_for(queue)

    def apply(self, settings: Settings) -> None:
        """Has hold what *settings* say of limits, before what the code says.

        For any thread. What runs above a limit that was lowered is let go on.
        """
        words = LimitWords(settings.rows)
        caps = words.caps(self._limits.caps)
        self._caps = caps
        if self._undeclared is None:
            # Once: of two codes that run at a time, the one that was started last counts.
            self._undeclared = words.declaring(self._limits)
        pool = self._engine.pool
        self._engine.call(lambda _: pool.keyed.limit(lambda key: cap_of(key, caps).running))

    def declare(self) -> None:
        """Tells the storage of the limits of this code, for others to look at."""
        if self._undeclared and isinstance(self._storage, RuntimeSettings):
            undeclared, self._undeclared = self._undeclared, ()
            with contextlib.suppress(SynkError):
                self._storage.change_settings(undeclared)

    # -- claiming ---------------------------------------------------------------------------------

    def claim(self, claim: DueClaim, clock: Callable[[], float]) -> tuple[KeyedClaim, Claimed]:
        """Claims once; returns what that brought, and what the pool is to be told of it.

        Kinds of short jobs, many of a key under one permit, and those of others take turns: of a
        long one nothing is to wait here behind another job.

        Raises:
            SynkError: nobody knows what it brought.
        """
        kinds = claim.kinds or self._kinds
        long = self._long(kinds)
        short = [kind for kind in kinds if kind not in long]
        # So that no key gets more permits than there are workers that could use them.
        ways = [
            (per, of)
            for per, of in ((-(-claim.limit // self._processes), short), (1, sorted(long)))
            if of
        ]
        if self._is_turn_of_long:
            ways.reverse()
        found, told = KeyedClaim(next=claim.after_keys or {}), Claimed([])
        for per_permit, of in ways:
            self._is_turn_of_long = of is short
            found, told = self._claim(claim, of, per_permit, long, clock)
            if found.jobs:
                break
        return found, told

    def _long(self, kinds: Sequence[str]) -> frozenset[str]:
        expected_s = self._engine.pool.estimates.expected_s
        return frozenset(kind for kind in kinds if expected_s(kind) > SHORT_S)

    def _claim(
        self,
        claim: DueClaim,
        kinds: Sequence[str],
        per_permit: int,
        long: Container[str],
        clock: Callable[[], float],
    ) -> tuple[KeyedClaim, Claimed]:
        pool, caps, most = self._engine.pool, self._caps, self._processes
        room = self._engine.ask(
            lambda _: pool.keyed.room(per_permit, clock(), permits_max=most, long=long)
        )
        held, full = (room.held, room.full) if room else (KeyRoom().held, ())
        self._may_have_permits = True
        limit = claim.limit if per_permit > 1 else min(claim.limit, 2 * most)
        found = self._storage.claim_keyed(
            claim.queue,
            limit,
            kinds=kinds,
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
        if len(found.jobs) >= limit:
            found = replace(found, is_cut=True)
        return found, Claimed(found.jobs, keys, found.permits)

    def without_strays(self, jobs: Sequence[ClaimedJob]) -> Sequence[ClaimedJob]:
        """Returns those of *jobs*, which were claimed as plain ones, that have no limit.

        The others came from a writer that knew of none: they get their keys, and go back.
        """
        if not self._limits:
            return jobs
        strays = {job.id: limit for job in jobs if (limit := self._limits.of(job.kind, job.queue))}
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

        The answer of a claim was lost with the first, and a fail-over has forgotten the others. It
        may also have brought an earlier taking of a permit back: what matters is that it is had.

        Raises:
            SynkError: it is not done.
        """
        if not self._may_have_permits:
            return
        pool = self._engine.pool
        held = self._engine.ask(lambda _: pool.keyed.held())
        if held is None:
            # The engine is on its way out: all of them are given back then.
            return
        known = {permit.place: permit for permit in held}
        stored = {permit.place: permit for permit in self._storage.permits(self._owner)}
        unknown = [permit for place, permit in stored.items() if place not in known]
        if unknown:
            self._storage.release_permits(self._owner, unknown)
        lost = [permit for place, permit in known.items() if place not in stored]
        if lost:
            self._engine.call(lambda _: pool.keyed.withdrawn(lost))
        both = [(permit, stored[place]) for place, permit in known.items() if place in stored]
        renamed = [there for here, there in both if here != there]
        if renamed:
            self._engine.call(lambda _: pool.keyed.renamed(renamed))

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
    limits = known_limits(registry.limits, queues)
    kinds = [kind for kind in registry.kinds if kind not in registry.weights]
    return KeyedClaims(storage, engine, acks, owner, kinds, limits=limits, processes=processes)
