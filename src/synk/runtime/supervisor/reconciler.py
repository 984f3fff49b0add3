"""Compares what the storage says that this supervisor runs with what it does run, and settles it.

Answers get lost: that of a claim, whose jobs are run by nobody then, and in a fail-over those that
had been given. So this is done after a claim that failed, after the storage was away, and now and
then. No claim may be under way meanwhile, and none may be made before what belongs to others now is
ended here: the next claim could bring the same jobs.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.core.messages import Disowned, Settle
from synk.core.ownership import Reconciliation, fence_of, reconcile
from synk.core.verdicts import ended_unseen
from synk.errors import SynkError
from synk.failure import Cause
from synk.retry import Verdict, judge
from synk.runtime.supervisor.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from synk.claim import Fence
    from synk.runtime.supervisor.ack_loop import AckLoop
    from synk.runtime.supervisor.backoff import StorageLink
    from synk.runtime.supervisor.engine import Engine
    from synk.runtime.supervisor.keyed_claims import KeyedClaims
    from synk.storage.base import Storage
    from synk.telemetry import Telemetry

_GONE_PAUSE_S: Final = 0.01
"""Between two looks whether what is to be given up here has ended."""


_STRAY: Final = "its supervisor does not know of it: the claim or its outcome was lost on the way"


class Reconciler:
    """Keeps one supervisor's jobs the same here and in the storage; driven by who claims."""

    def __init__(
        self,
        storage: Storage,
        engine: Engine,
        acks: AckLoop,
        owner: UUID,
        facts: Telemetry,
        keyed: KeyedClaims | None = None,
    ) -> None:
        self._keyed = keyed
        self._storage = storage
        self._engine = engine
        self._acks = acks
        self._owner = owner
        self._facts = facts
        self._backoff = Backoff("comparing jobs", facts)
        self._is_asked = False
        self._unanswered: set[int] = set()
        """Numbers of claims whose answer was lost: they may be granted even later."""
        self._gone: set[Fence] = set()
        """What the pool was told to give up, and may not have done yet."""

    def share(self, link: StorageLink, wake: Callable[[], None]) -> None:
        """Has other loops hear when this gets through to the storage, and the reverse."""
        link.join(self._backoff, wake)

    def compare_soon(self) -> None:
        """Has the jobs compared before the next claim; from any thread."""
        self._is_asked = True

    def answer_lost(self, claim_seq: int) -> None:
        """The claim of this number may have been granted, and nobody knows what it brought."""
        self._unanswered.add(claim_seq)
        self._is_asked = True

    @property
    def is_due(self) -> bool:
        """Whether there is something to do before the next claim."""
        return self._is_asked or bool(self._gone)

    def step(self, now: float) -> float:
        """Does what is due; returns the seconds until there may be more of it to do."""
        if not self._gone:
            # Before the question: what is asked for meanwhile is another comparison.
            self._is_asked = False
            try:
                self._gone = self._compare()
                if self._keyed is not None:
                    self._keyed.compare()
            except SynkError as error:
                self._is_asked = True
                return self._backoff.failed(error, now)
            self._backoff.succeeded(now)
        if self._gone:
            # Where nobody answers, the engine has ended, and all that it held.
            self._gone &= self._held() or set()
        return _GONE_PAUSE_S if self._gone else 0.0

    def give_back_unanswered(self) -> None:
        """At the end: what a lost claim took has not run, and a rescuer would charge it."""
        if not (self._unanswered and self._is_asked):
            return
        pending = self._acks.pending()
        with contextlib.suppress(SynkError):
            ghosts = [
                judge(job, Verdict.RELEASED)
                for job in self._storage.running(self._owner)
                if job.claim_seq in self._unanswered and fence_of(job) not in pending
            ]
            self._acks.settle(Settle(ended=ghosts))

    def _compare(self) -> set[Fence]:
        """Settles where the storage and the pool disagree; returns what the pool is to give up."""
        held = self._held()
        outcomes = self._acks.pending()
        running = self._storage.running(self._owner)
        still_held = self._held()
        if held is None or still_held is None:
            # The engine is on its way out, and settles all that it holds.
            return set()
        found = reconcile(
            running,
            held=held,
            still_held=still_held,
            outcomes=outcomes,
            accepted=self._acks.accepted(),
            unanswered=self._unanswered,
        )
        if found == Reconciliation():
            return set()
        self._facts.emit(
            telemetry.JobsReconciled(
                len(found.again), len(found.ghosts), len(found.strays), len(found.gone)
            )
        )
        self._acks.offer(found.again)
        ended = [judge(job, Verdict.RELEASED) for job in found.ghosts]
        ended += [ended_unseen(job, Cause.LOST, _STRAY) for job in found.strays]
        self._acks.settle(Settle(ended=ended))
        if found.gone:
            self._engine.post(Disowned(found.gone))
        return set(found.gone)

    def _held(self) -> set[Fence] | None:
        held = self._engine.ask(lambda _: self._engine.pool.held())
        return None if held is None else set(held)
