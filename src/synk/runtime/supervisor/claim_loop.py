"""The threads that talk to the storage: claiming and listening; others have a file of their own.

Each waits, asks one question, hands on the answer, and minds the stop flag. None of them ever
stops because of the storage: a failure is told once, and the loop tries again with a growing pause.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.claim import Outcome
from synk.config import HELD_BYTES
from synk.core.claim_cursors import END, ClaimCursors
from synk.core.held_bytes import CLAIMS_A_HOLD, Weights, may_be_cut
from synk.core.messages import Claimed, Disowned, Settle
from synk.core.ownership import Reconciliation, fence_of, reconcile
from synk.errors import StorageConflict, SynkError
from synk.failure import AttemptError, Cause
from synk.retry import Verdict, judge
from synk.row import Priority
from synk.runtime.supervisor.backoff import Backoff, BatchLimit
from synk.runtime.supervisor.jitter import jittered

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from uuid import UUID

    from synk.claim import ClaimCursor, ClaimedJob, Fence
    from synk.config import QueueConfig
    from synk.core.dispatch import Urgent
    from synk.runtime.supervisor.ack_loop import AckLoop
    from synk.runtime.supervisor.backoff import StorageLink
    from synk.runtime.supervisor.engine import Engine
    from synk.storage.base import Storage
    from synk.telemetry import Telemetry

CLAIM_JOBS: Final = 1_000
"""Jobs in one claim at most. Each claim costs a wait for the disk; beyond this the gain is small,
and what is urgent waits for longer behind a claim that is under way."""

IDLE_FETCHES: Final = 9
"""Intervals that an empty queue is left in peace, at the most, while new jobs are announced."""

URGENT_PAUSE_S: Final = 0.02
"""Between two looks whether anything more urgent has come than what is at hand: jobs may be
announced hundreds of times a second."""

_GONE_PAUSE_S: Final = 0.01
_LISTEN_S: Final = 0.5
"""How long the listener waits at a time, in seconds."""


class ClaimLoop:
    """Claims what the pool demands: at once when something was announced, else by `time_fetch`.

    It also compares what the storage says that this supervisor runs with what it does run, since no
    claim may be under way meanwhile: after a claim whose answer was lost, and now and then.
    """

    def __init__(  # noqa: PLR0915 - one attribute a line
        self,
        storage: Storage,
        engine: Engine,
        acks: AckLoop,
        owner: UUID,
        queues: Mapping[str, QueueConfig],
        kinds: list[str],
        facts: Telemetry,
        *,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._acks = acks
        self._owner = owner
        self._fetch_s = {name: queue.time_fetch.total_seconds() for name, queue in queues.items()}
        self._kinds = kinds
        self._facts = facts
        self._backoff = Backoff("claiming", facts)
        self._comparing = Backoff("comparing jobs", facts)
        self._batch = BatchLimit()
        self._condition = threading.Condition()
        self._demand: dict[str, int] = {}
        self._rooms: dict[str, int] = {}
        self._weights = Weights(queues)
        self._claim_bytes = held_bytes // CLAIMS_A_HOLD
        self._due = dict.fromkeys(queues, 0.0)
        self._urgent: dict[str, Urgent] = {}
        self._urgent_due = dict.fromkeys(queues, 0.0)
        self._urgent_rests = dict.fromkeys(queues, 0.0)
        """Until when there is no look for urgent jobs."""
        self._claimed = dict.fromkeys(queues, -1)
        """The number of each queue's last claim."""
        self._empty = dict.fromkeys(queues, 0)
        """Claims in a row that found nothing, by queue."""
        self._cursors = ClaimCursors(queues)
        self._are_announced = False
        self._stopping = False
        self._tries_now = False
        self._claims = 0
        self._claim_seq = 0
        self._unanswered: set[int] = set()
        """Numbers of claims whose answer was lost: they may be granted even later."""
        self._reconcile_due = False

    def set_demand(
        self,
        demand: dict[str, int],
        urgent: dict[str, Urgent],
        claims_seen: int,
        rooms: dict[str, int] | None = None,
    ) -> None:
        """Takes the pool's demand, unless there are claims that the pool had not seen yet.

        Args:
            demand: how many jobs of each queue are wanted.
            urgent: what is wanted beyond that.
            claims_seen: how many claims the pool has taken in.
            rooms: how many bytes of jobs of each queue it may be given; None: any.
        """
        with self._condition:
            if claims_seen != self._claims:
                return
            self._rooms = rooms or {}
            if (demand, urgent) != (self._demand, self._urgent):
                self._demand, self._urgent = demand, urgent
                self._condition.notify()

    def look_now(self, queues: Container[str] | None = None) -> None:
        """There may be new jobs in *queues* (None: in any): they do not wait for their interval."""
        with self._condition:
            for queue in self._due:
                if queues is None or queue in queues:
                    self._due[queue] = 0.0
                    self._urgent_due[queue] = self._urgent_rests[queue]
                    self._cursors.announced(queue)
            self._condition.notify()

    def rely_on_announcements(self, are_announced: bool) -> None:  # noqa: FBT001 - a fact
        """Says whether new jobs are announced: an empty queue is fetched less often then."""
        self._are_announced = are_announced

    def reconcile_soon(self) -> None:
        """Has the jobs compared before the next claim."""
        with self._condition:
            self._reconcile_due = True
            self._condition.notify()

    def share(self, link: StorageLink) -> None:
        """Has other loops hear when this one gets through to the storage, and the reverse."""
        link.join(self._backoff, self._try_now)
        link.join(self._comparing, self._try_now)

    def _try_now(self) -> None:
        with self._condition:
            self._tries_now = True
            self._condition.notify()

    def stop(self) -> None:
        """Ends `run`. A claim that is under way is handed on; the pool gives it back."""
        with self._condition:
            self._stopping = True
            self._condition.notify()

    def run(self) -> None:
        """Claims until `stop`."""
        while not self._stopping:
            wanted = self._wait()
            if self._reconcile_due:
                self._reconcile()
            if wanted is not None and (pause_s := self._claim(*wanted)):
                self._pause(pause_s)
        if self._unanswered and self._reconcile_due:
            self._give_back_unanswered()

    def _wait(self) -> tuple[str, int | Urgent] | None:
        """Waits for something to do; returns what is to be claimed, if anything is."""
        with self._condition:
            while not self._stopping:
                now = time.monotonic()
                wanted = self._wanted(now)
                if wanted is not None:
                    self._claims += 1
                    return wanted
                if self._reconcile_due:
                    return None
                times = [self._due[name] for name in self._demand]
                times += [self._urgent_due[name] for name in self._urgent]
                at = min(times, default=math.inf)
                self._condition.wait(None if at == math.inf else max(0.0, at - now))
            return None

    def _wanted(self, now: float) -> tuple[str, int | Urgent] | None:
        for queue in self._urgent:
            # First: a claim of hundreds of jobs takes its time.
            if self._urgent_due[queue] <= now:
                return queue, self._urgent.pop(queue)
        due = [name for name in self._demand if self._due[name] <= now]
        if due:
            # In turns: a queue that always has jobs must not keep others from being asked.
            queue = min(due, key=self._claimed.__getitem__)
            self._claimed[queue] = self._claims
            wanted = self._demand[queue]
            limit = min(CLAIM_JOBS, wanted)
            # The pool's demand holds again once it has seen what this claim brings; until then
            # there is only the rest of a demand for more than one claim.
            rest = wanted - limit
            self._demand = {queue: rest} if rest >= CLAIM_JOBS // 2 else {}
            return queue, limit
        return None

    def _claim(self, queue: str, wanted: int | Urgent) -> float:
        """Claims once; returns how long to wait before the next claim."""
        if isinstance(wanted, int):
            return self._claim_next(queue, self._batch.of(wanted, time.monotonic()))
        return self._claim_urgent(queue, wanted)

    def _claim_next(self, queue: str, limit: int) -> float:
        """Claims what comes next."""
        began = time.monotonic()
        with self._condition:
            # Before the question: an announcement during it must not be lost.
            rests = min(self._empty[queue], IDLE_FETCHES) if self._are_announced else 0
            self._due[queue] = began + jittered(self._fetch_s[queue] * (1 + rests), 0.2)
            self._look_for_urgent_later(queue, began)
            after = self._cursors.of(queue, began)
            bytes_max = max(1, min(self._claim_bytes, self._rooms.get(queue, self._claim_bytes)))
            limit = min(limit, self._weights.most(queue, bytes_max))
        jobs, pause_s = self._asked(queue, limit, after, bytes_max)
        if not pause_s:
            weight = self._weights.learn(queue, jobs)
            with self._condition:
                if may_be_cut(weight, bytes_max):
                    limit = min(limit, len(jobs))
                    self._weighed(queue, weight)
                now = time.monotonic()
                again_at = self._cursors.claimed(queue, jobs, limit=limit, began=began, now=now)
                if again_at is not None:
                    self._due[queue] = min(self._due[queue], again_at)
            self._empty[queue] = 0 if jobs else self._empty[queue] + 1
        if pause_s or len(jobs) >= limit:
            with self._condition:
                self._due[queue] = 0.0
        self._engine.post(Claimed(jobs))
        return pause_s

    def _weighed(self, queue: str, weight: int) -> None:
        """Has the rest of a demand wait where the claim so far has taken up the room."""
        if queue in self._rooms:
            self._rooms[queue] -= weight
            if self._rooms[queue] <= 0:
                self._demand.pop(queue, None)

    def _claim_urgent(self, queue: str, urgent: Urgent) -> float:
        """Claims what is more urgent than what is at hand, if there is any.

        The cursors stay as they are: this does not read on.
        """
        began = time.monotonic()
        with self._condition:
            self._urgent_rests[queue] = began + URGENT_PAUSE_S
            self._look_for_urgent_later(queue, began)
            after = self._cursors.of(queue, began)
        passed_over = {int(priority): END for priority in Priority if priority >= urgent.above}
        jobs, pause_s = self._asked(
            queue, urgent.count, {**after, **passed_over}, self._claim_bytes
        )
        if pause_s or len(jobs) >= urgent.count:
            with self._condition:
                self._urgent_due[queue] = self._urgent_rests[queue]
        self._engine.post(Claimed(jobs))
        return pause_s

    def _look_for_urgent_later(self, queue: str, now: float) -> None:
        fetch_s = math.inf if self._are_announced else self._fetch_s[queue]
        self._urgent_due[queue] = now + fetch_s

    def _asked(
        self, queue: str, limit: int, after: Mapping[int, ClaimCursor], bytes_max: int
    ) -> tuple[list[ClaimedJob], float]:
        """Returns what a claim brings, and how long to wait before the next if it has failed."""
        self._claim_seq += 1
        try:
            jobs = self._storage.get_job_available(
                queue,
                limit,
                kinds=self._kinds,
                owner=self._owner,
                claim_seq=self._claim_seq,
                after=after,
                bytes_max=bytes_max,
            )
        except SynkError as error:
            self._unanswered.add(self._claim_seq)
            self._reconcile_due = True
            if isinstance(error, StorageConflict):
                self._batch.was_too_much(limit, time.monotonic())
            return [], self._backoff.failed(error, time.monotonic())
        self._backoff.succeeded(time.monotonic())
        return jobs, 0.0

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._condition:
            while not self._stopping and not self._tries_now:
                if (left := deadline - time.monotonic()) <= 0:
                    break
                self._condition.wait(left)
            # Cleared at the end: it may have come before this pause began.
            self._tries_now = False

    # -- reconciling ------------------------------------------------------------------------------

    def _reconcile(self) -> None:
        """Compares until it could be done; nothing is claimed before that."""
        while not self._stopping:
            try:
                gone = self._compare()
            except SynkError as error:
                self._pause(self._comparing.failed(error, time.monotonic()))
            else:
                self._comparing.succeeded(time.monotonic())
                self._reconcile_due = False
                self._wait_until_gone(gone)
                return

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
        ended += [judge(job, Verdict.FAILED, _stray(job)) for job in found.strays]
        self._acks.settle(Settle(ended=ended))
        if found.gone:
            self._engine.post(Disowned(found.gone))
        return set(found.gone)

    def _give_back_unanswered(self) -> None:
        """At the end: what a lost claim took has not run, and a rescuer would charge it."""
        pending = self._acks.pending()
        with contextlib.suppress(SynkError):
            ghosts = [
                judge(job, Verdict.RELEASED)
                for job in self._storage.running(self._owner)
                if job.claim_seq in self._unanswered and fence_of(job) not in pending
            ]
            self._acks.settle(Settle(ended=ghosts))

    def _held(self) -> set[Fence] | None:
        held = self._engine.ask(lambda _: self._engine.pool.held())
        return None if held is None else set(held)

    def _wait_until_gone(self, gone: set[Fence]) -> None:
        """What is not ours may be ours again with the next claim: never twice at one time."""
        while not self._stopping and (held := self._held()) is not None and gone & held:
            self._pause(_GONE_PAUSE_S)


def _stray(job: ClaimedJob) -> Outcome:
    text = "its supervisor does not know of it: the claim or its outcome was lost on the way"
    error = AttemptError(attempt=job.attempt, cause=Cause.LOST, error=text).to_json()
    return Outcome(job.id, job.attempt, job.claim_seq, error=error)
