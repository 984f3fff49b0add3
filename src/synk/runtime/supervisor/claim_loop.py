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
from typing import TYPE_CHECKING

from synk.config import HELD_BYTES
from synk.core.claim_schedule import ClaimSchedule, Demand, none_of
from synk.core.messages import Claimed
from synk.errors import StorageConflict, SynkError
from synk.runtime.supervisor.backoff import Backoff, BatchLimit
from synk.runtime.supervisor.reconciler import Reconciler

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from uuid import UUID

    from synk.config import QueueConfig
    from synk.core.claim_schedule import DueClaim
    from synk.runtime.supervisor.ack_loop import AckLoop
    from synk.runtime.supervisor.backoff import StorageLink
    from synk.runtime.supervisor.engine import Engine
    from synk.storage.base import Storage
    from synk.telemetry import Telemetry


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
        )
        self._reconciler = Reconciler(storage, engine, acks, owner, facts)
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
        claim = self._schedule.due_claim(now, random.random())  # noqa: S311 - jitter
        if claim is None:
            return max(0.0, self._schedule.next_due() - now)
        return self._rest(self._claim(claim))

    def _rest(self, seconds: float) -> float:
        if seconds:
            self._rests_until = self._clock() + seconds
        return seconds

    def _claim(self, claim: DueClaim) -> float:
        """Claims once; returns how long to wait before the next claim."""
        claim = replace(claim, limit=self._batch.of(claim.limit, claim.at))
        try:
            jobs = self._storage.get_job_available(
                claim.queue,
                claim.limit,
                kinds=claim.kinds or self._kinds,
                owner=self._owner,
                claim_seq=claim.seq,
                after=claim.after,
                bytes_max=claim.bytes_max,
            )
        except SynkError as error:
            now = self._clock()
            # A claim of what is urgent is small anyway: what was too much was not its number.
            if isinstance(error, StorageConflict) and not claim.is_urgent:
                self._batch.was_too_much(claim.limit, now)
            self._schedule.failed(claim)
            self._reconciler.answer_lost(claim.seq)
            self._engine.post(Claimed([]))
            return self._backoff.failed(error, now)
        now = self._clock()
        self._backoff.succeeded(now)
        self._schedule.claimed(claim, jobs, now)
        self._engine.post(Claimed(jobs, none_of=none_of(claim, jobs)))
        return 0.0

    def close(self) -> None:
        """After the last step: gives back what a lost claim may have taken."""
        self._reconciler.give_back_unanswered()
