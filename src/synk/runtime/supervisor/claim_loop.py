"""The loop that claims jobs: it asks the schedule what is due, the storage for it, and hands it on.

Nothing ever stops it because of the storage: trouble is told once, and it tries again with a
growing pause. What others tell it, in their threads, waits until its next step, and they wait for
nothing.
"""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final

from synk.config import HELD_BYTES
from synk.core.claim_schedule import ClaimSchedule, Demand
from synk.core.messages import Claimed
from synk.errors import StorageConflict, SynkError
from synk.runtime.supervisor.backoff import Backoff, BatchLimit
from synk.runtime.supervisor.keyed_claims import FOREIGN_S
from synk.runtime.supervisor.reconciler import Reconciler

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from uuid import UUID

    from synk.config import QueueConfig
    from synk.core.claim_schedule import DueClaim
    from synk.runtime.supervisor.ack_loop import AckLoop
    from synk.runtime.supervisor.backoff import StorageLink
    from synk.runtime.supervisor.engine import Engine
    from synk.runtime.supervisor.keyed_claims import KeyedClaims
    from synk.setting import Settings
    from synk.storage.base import Storage
    from synk.telemetry import Telemetry

RETURN_S: Final = 0.5
"""Permits are given back no more often than that."""


class ClaimLoop:
    """Claims what the pool demands, when `ClaimSchedule` says so.

    Between two claims it has the `Reconciler` do what is due there.

    Args:
        storage: what it claims from.
        engine: gets what was claimed.
        acks: knows which jobs are over here.
        owner: whom it claims for.
        queues: what it claims from, and how often each is asked.
        kinds: which jobs it may have, but for those with a weight.
        keyed: claims those that have keys; None: the storage knows none.
        facts: told of what goes wrong.
        wake: has the next step come now; called from any thread.
        held_bytes: what the jobs that wait may weigh together.
        clock: gives the time that steps are told.
    """

    def __init__(  # noqa: PLR0913 - what it asks, and what it is told once
        self,
        storage: Storage,
        engine: Engine,
        acks: AckLoop,
        owner: UUID,
        queues: Mapping[str, QueueConfig],
        kinds: Sequence[str],
        facts: Telemetry,
        *,
        wake: Callable[[], None],
        keyed: KeyedClaims | None = None,
        held_bytes: int = HELD_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._owner = owner
        self._kinds = kinds
        self._clock = clock
        self._schedule = ClaimSchedule(
            {name: queue.time_fetch.total_seconds() for name, queue in queues.items()},
            held_bytes=held_bytes,
            limited=[name for name in queues if keyed and keyed.has_limits_for(name)],
            keyed_s=None if keyed is None else FOREIGN_S,
        )
        self._keyed = keyed
        self._has_new_limits = False
        self._next_return_at = 0.0
        """Before that no permits are given back: many go in one statement."""
        self._reconciler = Reconciler(storage, engine, acks, owner, facts, keyed)
        self._backoff = Backoff("claiming", facts)
        self._batch = BatchLimit()
        self._demand = Demand()
        self._announced: deque[Container[str] | None] = deque()
        self._rests_until = 0.0
        self._tries_now = False
        self._wake = wake

    # -- for other threads ------------------------------------------------------------------------

    @property
    def begun(self) -> int:
        """How many claims were begun so far."""
        return self._schedule.claims

    def set_demand(self, demand: Demand) -> None:
        """See `ClaimSchedule.set_demand`; what is handed over stays as it is."""
        if demand.claims_seen < self._schedule.claims:
            return
        former, self._demand = self._demand, demand
        if demand != former:
            self._wake()

    def look_now(self, queues: Container[str] | None = None) -> None:
        """There may be new jobs in *queues* (None: in any): they do not wait for their interval."""
        self._announced.append(queues)
        self._wake()

    def apply_limits(self, settings: Settings) -> None:
        """See `KeyedClaims.apply`."""
        if self._keyed is not None:
            self._keyed.apply(settings)
            self._has_new_limits = True
            self._wake()

    def rely_on_announcements(self, are_announced: bool) -> None:  # noqa: FBT001 - a fact
        """Says whether new jobs are announced: an empty queue is fetched less often then."""
        self._schedule.are_announced = are_announced

    def reconcile_soon(self) -> None:
        """Has the jobs compared before the next claim."""
        self._reconciler.compare_soon()
        self._wake()

    def share(self, link: StorageLink) -> None:
        """Has other loops hear when this one gets through to the storage, and the reverse."""
        link.join(self._backoff, self._try_now)
        self._reconciler.share(link, self._try_now)

    def _try_now(self) -> None:
        self._tries_now = True
        self._wake()

    # -- the loop ---------------------------------------------------------------------------------

    def step(self, now: float) -> float:
        """Does what is due, a claim at the most; returns the seconds until the next step."""
        if self._tries_now:
            self._tries_now, self._rests_until = False, now
        if now < self._rests_until:
            return self._rests_until - now
        if self._reconciler.is_due:
            return self._rest(self._reconciler.step(now))
        while self._announced:
            self._schedule.announced(self._announced.popleft())
        self._schedule.set_demand(self._demand)
        if self._has_new_limits:
            self._has_new_limits = False
            if self._keyed is not None:
                self._keyed.declare()
            self._schedule.look_for_keys()
        if self._keyed is not None and now >= self._return_at:
            return self._rest(self._give_back_permits(self._keyed, now))
        claim = self._schedule.due_claim(now, random.random())  # noqa: S311 - jitter
        if claim is None:
            return max(0.0, min(self._schedule.next_due(), self._return_at) - now)
        return self._rest(self._claim(claim))

    @property
    def _return_at(self) -> float:
        at = self._demand.permits_at
        return inf if at is None else max(at, self._next_return_at)

    def _give_back_permits(self, keyed: KeyedClaims, now: float) -> float:
        self._next_return_at = now + RETURN_S
        try:
            keyed.give_back()
        except SynkError as error:
            self._reconciler.compare_soon()
            return self._backoff.failed(error, now)
        return 0.0

    def _rest(self, seconds: float) -> float:
        if seconds:
            self._rests_until = self._clock() + seconds
        return seconds

    def _claim(self, claim: DueClaim) -> float:
        """Claims once; returns how long to wait before the next claim."""
        claim = replace(claim, limit=self._batch.of(claim.limit, claim.at))
        asked_at = self._engine.clock()
        try:
            if self._keyed is not None and claim.after_keys is not None:
                claimed = self._claim_keyed(self._keyed, claim)
            else:
                claimed = self._claim_plain(claim)
        except SynkError as error:
            now = self._clock()
            # A claim of what is urgent is small anyway: what was too much was not its number.
            if isinstance(error, StorageConflict) and not claim.is_urgent:
                self._batch.was_too_much(claim.limit, now)
            self._schedule.failed(claim)
            self._reconciler.answer_lost(claim.seq)
            self._engine.post(Claimed([]))
            return self._backoff.failed(error, now)
        self._backoff.succeeded(self._clock())
        self._engine.post(replace(claimed, asked_at=asked_at))
        return 0.0

    def _claim_plain(self, claim: DueClaim) -> Claimed:
        jobs = self._storage.get_job_available(
            claim.queue,
            claim.limit,
            kinds=claim.kinds or self._kinds,
            owner=self._owner,
            claim_seq=claim.seq,
            after=claim.after,
            bytes_max=claim.bytes_max,
        )
        self._schedule.claimed(claim, jobs, self._clock())
        none = self._schedule.none_of(claim, jobs)
        if self._keyed is None:
            return Claimed(jobs, none_of=none)
        plain = self._keyed.without_strays(jobs)
        if len(plain) < len(jobs):
            self._schedule.look_for_keys()
        return Claimed(plain, none_of=none)

    def _claim_keyed(self, keyed: KeyedClaims, claim: DueClaim) -> Claimed:
        found, claimed = keyed.claim(claim, self._engine.clock)
        self._schedule.claimed_keyed(claim, found, self._clock())
        if found.is_cut:
            return claimed
        return replace(claimed, none_of=self._schedule.none_of(claim, found.jobs))

    def close(self) -> None:
        """After the last step: gives back what a lost claim may have taken."""
        self._reconciler.give_back_unanswered()
