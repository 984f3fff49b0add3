"""Has the queues of one supervisor be as the settings say: paused, resumed, resized; or stops it.

A pause is in force here once nothing of the queue is held that could begin: what waited has gone
back and is stored as gone, what a worker had not begun was taken back, and what a claim under way
may bring has come.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.claim import Fence
from synk.core.messages import QueuesSet
from synk.queue_words import QueueWords

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from synk.config import QueueConfig
    from synk.runtime.supervisor.ack_loop import AckLoop
    from synk.runtime.supervisor.claim_loop import ClaimLoop
    from synk.runtime.supervisor.engine import Engine
    from synk.setting import Settings
    from synk.telemetry import Telemetry

_STORED_S: Final = 1.0
"""How long is waited until it is stored what has gone back: it cannot begin in either case, but who
looks at the table then would take it to run."""


class QueueControl:
    """Applies what was said of queues.

    Args:
        engine: has the queues' jobs.
        claims: claims them.
        acks: stores which have gone back.
        owner: the supervisor's id.
        queues: as they are configured.
        facts: told what changes.
        drain: has the supervisor stop.
        clock: gives the time.
    """

    def __init__(
        self,
        engine: Engine,
        claims: ClaimLoop,
        acks: AckLoop,
        owner: UUID,
        queues: Mapping[str, QueueConfig],
        facts: Telemetry,
        *,
        drain: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._claims = claims
        self._acks = acks
        self._owner = owner
        self._configured = {name: queue.max_workers for name, queue in queues.items()}
        self._facts = facts
        self._drain = drain
        self._clock = clock
        self._set = QueuesSet(frozenset(), self._configured)
        """What was wanted last."""
        # For the thread that asks what is in force:
        self._asked = self._let_go = self._set
        """What was asked for last, and what nothing is held against any more."""
        self._claims_before = 0
        """Claims that may have been under way when it was asked for."""
        self._unstored = set[Fence]()
        """What had gone back by then, and may not be stored as such."""
        self._waits_until = 0.0

    def apply(self, settings: Settings) -> None:
        """Takes in what the settings say; returns at once."""
        words = QueueWords(settings)
        former = self._set
        pauses = {name: words.paused(name, self._owner) for name in self._configured}
        paused = frozenset(name for name, word in pauses.items() if word)
        sizes = {
            name: words.max_workers(name, self._owner) or configured
            for name, configured in self._configured.items()
        }
        self._set = QueuesSet(paused, sizes)
        if self._set != former:
            self._engine.post(self._set)
            self._claims.look_now()
        for name in sorted(paused - former.paused):
            word = pauses[name]
            self._facts.emit(telemetry.QueuePaused(name, word.by if word else ""))
        for name in sorted(former.paused - paused):
            self._facts.emit(telemetry.QueueResumed(name))
        for name, count in sizes.items():
            if count != former.max_workers[name]:
                self._facts.emit(telemetry.QueueResized(name, count))
        if words.is_drained(self._owner):
            self._drain()

    def is_in_force(self) -> bool:
        """Whether nothing of a paused queue can begin here any more."""
        wanted = self._set
        if not wanted.paused:
            return True
        if self._asked is not wanted:
            self._asked, self._claims_before = wanted, self._claims.begun
        if self._let_go is not wanted:
            if not self._engine.ask(lambda _: self._has_let_go(wanted)):
                return False
            self._let_go, self._unstored = wanted, self._acks.pending()
            self._waits_until = self._clock() + _STORED_S
        self._unstored &= self._acks.pending()
        return not self._unstored or self._clock() >= self._waits_until

    def _has_let_go(self, wanted: QueuesSet) -> bool:
        """In the engine's loop, after what was posted before."""
        pool = self._engine.pool
        self._engine.look_closer()
        is_known = pool.paused == wanted.paused and pool.claims >= self._claims_before
        return is_known and not pool.held_claims.may_begin(wanted.paused)
