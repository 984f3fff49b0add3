"""The threads that talk to the storage: claim, acknowledge, listen, maintain.

Each waits, asks one question, hands on the answer, and minds the stop flag. None of them ever
stops because of the storage: trouble is told once, and the loop tries again with a growing pause.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.core.messages import CancelRequested, Claimed
from synk.errors import StorageError
from synk.job import AckAnswer, JobState, Outcome
from synk.retry import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from synk.config import CleanerConfig, QueueConfig
    from synk.core.messages import Settle
    from synk.runtime.engine import Engine
    from synk.storage.base import Storage
    from synk.telemetry import Telemetry

ACK_JOBS: Final = 500
"""Outcomes in one acknowledgement: larger batches flip the statement's plan."""

ACK_LINGER_S: Final = 0.002
"""Few outcomes wait this long for company: one statement for many costs the database far less."""

STAGE_JOBS: Final = 1_000
CLEAN_JOBS: Final = 2_000
CANCEL_POLL_S: Final = 1.0
"""How often cancel requests are looked for, in case that their announcement was lost."""

LOCKED_PAUSE_S: Final = 0.05
_LISTEN_S: Final = 0.5
"""How long the listener may take to notice that it is to stop, in seconds."""


class Trouble:
    """One loop's trouble with the storage: told when it begins and ends, with a back-off."""

    def __init__(self, loop: str, facts: Telemetry) -> None:
        self._loop = loop
        self._facts = facts
        self._since: float | None = None
        self._failures = 0

    def began(self, error: Exception) -> float:
        """Notes a failure; returns the seconds to pause."""
        if self._since is None:
            self._since = time.monotonic()
            self._facts.emit(telemetry.StorageTrouble(self._loop, str(error)))
        self._failures += 1
        return min(5.0, 0.1 * 2 ** min(self._failures, 6)) * random.uniform(0.5, 1.0)  # noqa: S311

    def ended(self) -> None:
        """Notes a success."""
        if self._since is not None:
            seconds = time.monotonic() - self._since
            self._since, self._failures = None, 0
            self._facts.emit(telemetry.StorageRecovered(self._loop, seconds))


class ClaimLoop:
    """Claims what the pool demands: at once when something was announced, else by `time_fetch`."""

    def __init__(
        self,
        storage: Storage,
        engine: Engine,
        owner: UUID,
        queues: Mapping[str, QueueConfig],
        kinds: list[str],
        facts: Telemetry,
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._owner = owner
        self._fetch_s = {name: queue.time_fetch.total_seconds() for name, queue in queues.items()}
        self._kinds = kinds
        self._trouble = Trouble("claiming", facts)
        self._condition = threading.Condition()
        self._demand: dict[str, int] = {}
        self._due = dict.fromkeys(queues, 0.0)
        self._stopping = False
        self._claims = 0
        self._claim_seq = 0

    def set_demand(self, demand: dict[str, int], claims_seen: int) -> None:
        """Takes the pool's demand, unless there are claims that the pool had not seen yet."""
        with self._condition:
            if claims_seen == self._claims and demand != self._demand:
                self._demand = demand
                self._condition.notify()

    def look_now(self) -> None:
        """Something was announced: no queue waits for its interval."""
        with self._condition:
            self._due = dict.fromkeys(self._due, 0.0)
            self._condition.notify()

    def stop(self) -> None:
        """Ends `run`. A claim that is under way is handed on; the pool gives it back."""
        with self._condition:
            self._stopping = True
            self._condition.notify()

    def run(self) -> None:
        """Claims until `stop`."""
        while (wanted := self._wait()) is not None:
            queue, limit = wanted
            self._claim(queue, limit)

    def _wait(self) -> tuple[str, int] | None:
        with self._condition:
            while not self._stopping:
                now = time.monotonic()
                due = [name for name in self._demand if self._due[name] <= now]
                if due:
                    queue = min(due, key=self._due.__getitem__)
                    # The pool's demand holds again once it has seen what this claim brings.
                    limit, self._demand = self._demand[queue], {}
                    self._claims += 1
                    return queue, limit
                times = [self._due[name] for name in self._demand]
                self._condition.wait(max(0.0, min(times) - now) if times else None)
            return None

    def _claim(self, queue: str, limit: int) -> None:
        self._claim_seq += 1
        began = time.monotonic()
        with self._condition:
            # Before the question: an announcement during it must not be lost.
            self._due[queue] = began + self._fetch_s[queue]
        try:
            jobs = self._storage.get_job_available(
                queue, limit, kinds=self._kinds, owner=self._owner, claim_seq=self._claim_seq
            )
        except StorageError as error:
            self._give_back_unknown(self._trouble.began(error))
            self._engine.post(Claimed(()))
            return
        self._trouble.ended()
        if len(jobs) >= limit:
            with self._condition:
                self._due[queue] = 0.0
        self._engine.post(Claimed(jobs))

    def _give_back_unknown(self, pause_s: float) -> None:
        """A claim whose answer was lost may have taken jobs: give back whatever it took."""
        while not self._stopping:
            with self._condition:
                self._condition.wait(pause_s)
            try:
                self._storage.release_claim(self._owner, self._claim_seq)
            except StorageError as error:
                pause_s = self._trouble.began(error)
            else:
                self._trouble.ended()
                return


class AckLoop:
    """Stores outcomes, in batches, again and again until each has its answer."""

    def __init__(
        self,
        storage: Storage,
        owner: UUID,
        facts: Telemetry,
    ) -> None:
        self._storage = storage
        self._owner = owner
        self._facts = facts
        self._trouble = Trouble("acknowledging", facts)
        self._settled: deque[Settle] = deque()
        self._outcomes: deque[Outcome] = deque()
        self._arrived = threading.Event()
        self._give_up_at: float | None = None

    @property
    def unacknowledged(self) -> int:
        """Outcomes that are not stored yet."""
        return len(self._outcomes) + sum(
            len(settle.successes) + len(settle.ended) for settle in list(self._settled)
        )

    def settle(self, settle: Settle) -> None:
        """Takes what is over; returns at once."""
        self._settled.append(settle)
        self._arrived.set()

    def finish_by(self, deadline: float) -> None:
        """Ends `run` when everything is stored, or at *deadline* (monotonic)."""
        self._give_up_at = deadline
        self._arrived.set()

    def run(self) -> None:
        """Acknowledges until `finish_by`."""
        while True:
            self._arrived.wait()
            self._arrived.clear()
            self._gather()
            while self._outcomes:
                if self._give_up_at is not None and time.monotonic() > self._give_up_at:
                    return
                self._acknowledge()
                self._gather()
            if self._give_up_at is not None and not self._settled:
                return

    def _judge_settled(self) -> None:
        while self._settled:
            settle = self._settled.popleft()
            self._outcomes.extend(
                Outcome(
                    job.id,
                    job.attempt,
                    job.claim_seq,
                    JobState.COMPLETED,
                    *(measure[0], measure[1], measure[2], measure[3], pid),
                )
                for job, measure, pid in settle.successes
            )
            for ended in settle.ended:
                outcome = judge(ended, random.random())  # noqa: S311 - jitter
                self._outcomes.append(outcome)
                if ended.error is not None:
                    self._facts.emit(telemetry.AttemptEnded(ended, outcome.state.value))

    def _gather(self) -> None:
        self._judge_settled()
        if 0 < len(self._outcomes) < ACK_JOBS // 4 and self._give_up_at is None:
            time.sleep(ACK_LINGER_S)
            self._judge_settled()

    def _acknowledge(self) -> None:
        batch = [self._outcomes.popleft() for _ in range(min(ACK_JOBS, len(self._outcomes)))]
        # In the order of ids, so that two that write many rows take their locks the same way round.
        batch.sort(key=lambda outcome: outcome.id)
        try:
            answers = self._storage.update_job_state(self._owner, batch)
        except StorageError as error:
            # Unknown whether it was applied; to offer it again is safe.
            self._outcomes.extendleft(reversed(batch))
            self._pause(self._trouble.began(error))
            return
        self._trouble.ended()
        for outcome, answer in zip(batch, answers, strict=True):
            if answer is AckAnswer.LOCKED:
                self._outcomes.append(outcome)
            elif answer not in (AckAnswer.APPLIED, AckAnswer.DUPLICATE):
                self._facts.emit(telemetry.OutcomeRefused(outcome.id, outcome.attempt, answer))
        if answers and all(answer is AckAnswer.LOCKED for answer in answers):
            self._pause(LOCKED_PAUSE_S)

    def _pause(self, seconds: float) -> None:
        if self._give_up_at is not None:
            seconds = min(seconds, max(0.0, self._give_up_at - time.monotonic()))
        time.sleep(seconds)


class ListenLoop:
    """Passes hints of the storage on. They make things quick; nothing depends on them."""

    def __init__(
        self, storage: Storage, owner: UUID, facts: Telemetry, *, on_hint: Callable[[], None]
    ) -> None:
        self._storage = storage
        self._owner = owner
        self._on_hint = on_hint
        self._trouble = Trouble("listening", facts)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ends `run`, at the latest when its present wait is over."""
        self._stop.set()

    def run(self) -> None:
        """Listens until `stop`."""
        while not self._stop.is_set():
            try:
                with self._storage.announcements(self._owner) as announcements:
                    self._trouble.ended()
                    # Whatever came while nobody listened.
                    self._on_hint()
                    while not self._stop.is_set():
                        if announcements.wait(_LISTEN_S):
                            self._on_hint()
            except StorageError as error:
                self._stop.wait(self._trouble.began(error))


class MaintenanceLoop:
    """Makes due jobs available, looks for cancel requests, and cleans."""

    def __init__(
        self,
        storage: Storage,
        engine: Engine,
        owner: UUID,
        facts: Telemetry,
        *,
        stage_s: float,
        cleaner: CleanerConfig | None,
        on_staged: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._owner = owner
        self._facts = facts
        self._stage_s = stage_s
        self._cleaner = cleaner
        self._on_staged = on_staged
        self._trouble = Trouble("maintenance", facts)
        self._wake = threading.Event()
        self._stopping = False
        self._cancels_due = 0.0
        self._clean_due = time.monotonic() + self._first_clean_s()

    def _first_clean_s(self) -> float:
        """Soon, but not for all supervisors of a fleet in the same second."""
        if self._cleaner is None:
            return float("inf")
        interval_s = self._cleaner.clean_interval.total_seconds()
        return min(interval_s, 60.0) * random.uniform(0.5, 1.0)  # noqa: S311 - spread, no secret

    def look_now(self) -> None:
        """Something was announced, perhaps a cancel."""
        self._cancels_due = 0.0
        self._wake.set()

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping = True
        self._wake.set()

    def run(self) -> None:
        """Maintains until `stop`."""
        while not self._stopping:
            pause_s = self._stage_s
            try:
                self._pass(time.monotonic())
                self._trouble.ended()
            except StorageError as error:
                pause_s = self._trouble.began(error)
            self._wake.wait(pause_s)
            self._wake.clear()

    def _pass(self, now: float) -> None:
        if now >= self._cancels_due:
            self._cancels_due = now + CANCEL_POLL_S
            fences = self._storage.cancel_requests(self._owner)
            if fences:
                self._engine.post(CancelRequested(fences))
        while self._storage.stage(STAGE_JOBS):
            self._on_staged()
        if now >= self._clean_due and self._cleaner is not None:
            self._clean_due = now + self._cleaner.clean_interval.total_seconds()
            self._clean(self._cleaner)

    def _clean(self, cleaner: CleanerConfig) -> None:
        total = 0
        for state, retention in cleaner.by_status.items():
            while not self._stopping:
                removed = self._storage.cleaner(state, retention, limit=CLEAN_JOBS)
                total += removed
                if removed < CLEAN_JOBS:
                    break
        if total:
            self._facts.emit(telemetry.JobsCleaned(total))
