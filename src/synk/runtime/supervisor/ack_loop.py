"""The loop that stores outcomes, in batches, again and again until each has its answer.

A batch that the server refuses for what one of its outcomes says is halved until that one is alone;
it is stored then without the fewest of its values that the server takes it without. After any other
refusal nothing is left out: it is tried again, and batches are smaller for a while, so that one
that cannot be stored at all stands in the way of none. What was accepted lately is remembered, in
case that the server loses it in a fail-over.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import combinations
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec import structs

from synk import telemetry
from synk.claim import AckAnswer, Outcome
from synk.config import HELD_BYTES
from synk.core.ownership import fence_of
from synk.core.verdicts import plain_success
from synk.errors import InvalidJob, SchemaMismatch, StorageError, StorageUnavailable
from synk.failure import AttemptError
from synk.retry import SPREAD, EndedAttempt, Verdict
from synk.row import JobState
from synk.runtime.supervisor.backoff import Backoff, BatchLimit
from synk.runtime.supervisor.jitter import jittered, spread
from synk.runtime.supervisor.unstored import Unstored, weight_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from synk.claim import Fence
    from synk.core.messages import Settle
    from synk.storage.base import Storage
    from synk.telemetry import Telemetry

ACK_JOBS: Final = 1_000
"""Outcomes in one acknowledgement. Each costs a wait for the disk, so few large ones are better
than many small; beyond this the gain is small, and the rows are locked for longer."""

ACK_WEIGHT: Final = ACK_JOBS + 8_000
"""What they may weigh, so that results and records of 64 KiB each make no statement of 100 MB. One
counts as one, and once more for each kilobyte of its texts."""

ENOUGH_JOBS: Final = 125
ACK_LINGER_S: Final = 0.002
BUSY_LINGER_S: Final = 0.05
"""Fewer outcomes than that wait this long for company: one statement for many costs the database
far less. The longer time holds where jobs wait and no worker is idle: what depends on an outcome
then could hardly begin sooner."""

ACCEPTED_WEIGHT: Final = 10_000
"""Accepted outcomes that are remembered: what a server that fails over may have lost. One with
texts counts once more for each kilobyte."""

LOCKED_PAUSE_S: Final = 0.05
"""At the most; by chance less, so that two that skip each other's rows do not keep step."""

_CHOSEN: Final = ("output", "progress", "checkpoint", "retry_at", "result", "error")
"""What of an outcome is the job's own, the least first."""

_OWN_END: Final = "the job had completed by complete_tx() before, and stays completed"

T = TypeVar("T")


class AckLoop:
    """Stores outcomes of one owner's claims.

    Args:
        storage: takes them.
        owner: who made the claims.
        facts: told of each attempt that is over, and when the storage fails.
        held_bytes: what outcomes may weigh together that wait, at the most.
        wake: has the next step come at once; called where the last one had nothing to do.
    """

    def __init__(
        self,
        storage: Storage,
        owner: UUID,
        facts: Telemetry,
        *,
        held_bytes: int = HELD_BYTES,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._storage = storage
        self._owner = owner
        self._facts = facts
        self.backoff = Backoff("acknowledging", facts)
        self._batch = BatchLimit()
        self._settled: deque[Settle] = deque()
        self._outcomes: deque[Outcome] = deque()
        self._accepted: deque[tuple[int, Sequence[Outcome]]] = deque()
        self._accepted_weight = 0
        self._unstored = Unstored(held_bytes)
        self._wake = wake
        self._is_idle = False
        """Whether the next step comes only when it is woken."""
        self._has_lingered = False
        self._give_up_at: float | None = None
        self.is_busy = False
        """Whether more outcomes are sure to come."""

    @property
    def unacknowledged(self) -> int:
        """Outcomes that are not stored yet."""
        settled = _copied(self._settled)
        return len(self._outcomes) + sum(
            len(settle.successes) + len(settle.ended) for settle in settled
        )

    def room(self, at_hand: Callable[[], int]) -> int:
        """Returns how many more jobs may be claimed, for what waits to be stored; 0 or less: none.

        Args:
            at_hand: says how many jobs are claimed and not over.
        """
        # Cheap, since it is asked all the time: what arrived during a statement counts as few.
        waiting = len(self._outcomes) + len(self._settled)
        return self._unstored.room(waiting, at_hand() if self._unstored.expects_texts else 0)

    # -- for other threads ------------------------------------------------------------------------

    def settle(self, settle: Settle) -> None:
        """Takes what is over; returns at once."""
        self._unstored.arrived(settle)
        self._settled.append(settle)
        self._wake_if_idle()

    def offer(self, outcomes: Sequence[Outcome]) -> None:
        """Takes outcomes that are judged already; returns at once."""
        self._unstored.offered(outcomes)
        self._outcomes.extend(outcomes)
        self._wake_if_idle()

    def _wake_if_idle(self) -> None:
        # Most outcomes come while it waits for more of them, or for the storage.
        if self._is_idle:
            self._is_idle = False
            self._wake()

    def pending(self) -> set[Fence]:
        """Returns the claims whose outcome is on its way; may have some that just arrived."""
        # In the order of the way, so that none that moves on meanwhile is missed.
        fences = {
            fence_of(job)
            for settle in _copied(self._settled)
            for job in (
                *(job for job, _, _ in settle.successes),
                *(ended.job for ended in settle.ended),
            )
        }
        fences.update(map(fence_of, _copied(self._outcomes)))
        return fences

    def accepted(self) -> dict[Fence, Outcome]:
        """Returns the outcomes that the storage accepted lately, by their claims."""
        return {fence_of(each): each for _, batch in _copied(self._accepted) for each in batch}

    def finish_by(self, deadline: float) -> None:
        """Waits for no company from now on, and gives up what is not stored at *deadline*."""
        self._give_up_at = deadline

    # -- the loop ---------------------------------------------------------------------------------

    def step(self, now: float) -> float:
        """Stores some outcomes, if there are enough or they have waited; returns when to go on.

        That is the seconds until the next step; `math.inf` if there is nothing to store, or no time
        left for it.
        """
        self._is_idle = False
        self._judge_settled()
        if not self._outcomes:
            return self._idle()
        left_s = math.inf if self._give_up_at is None else self._give_up_at - now
        if left_s <= 0:
            return math.inf
        is_finishing = self._give_up_at is not None
        if len(self._outcomes) < ENOUGH_JOBS and not self._has_lingered and not is_finishing:
            self._has_lingered = True
            return BUSY_LINGER_S if self.is_busy else ACK_LINGER_S
        self._has_lingered = False
        return min(self._acknowledge_some(now), left_s)

    def _idle(self) -> float:
        """Has whoever brings something wake it; returns the seconds until the next step."""
        self._is_idle = True
        # What came just before that wakes nobody.
        return 0.0 if self._settled or self._outcomes else math.inf

    def _judge_settled(self) -> None:
        while self._settled:
            # It stays there until its outcomes are in the next place: see `pending`.
            settle = self._settled[0]
            self._outcomes.extend([plain_success(*success) for success in settle.successes])
            for ended in settle.ended:
                outcome = ended.outcome
                if outcome.retry_in_s is not None and ended.verdict is Verdict.FAILED:
                    outcome.retry_in_s = spread(outcome.retry_in_s, SPREAD)
                self._outcomes.append(outcome)
                self._tell(ended)
            if self._facts.wants_successes:
                self._tell_successes(settle)
            self._settled.popleft()

    def _tell(self, ended: EndedAttempt) -> None:
        if ended.verdict is Verdict.SNOOZED:
            self._facts.emit(telemetry.AttemptSnoozed(ended))
        elif ended.verdict is Verdict.GAVE_UP:
            self._facts.emit(telemetry.AttemptGaveUp(ended))
        elif ended.outcome.error is not None:
            self._facts.emit(telemetry.AttemptFailed(ended))

    def _tell_successes(self, settle: Settle) -> None:
        plain = (
            EndedAttempt(success[0], Verdict.SUCCEEDED, plain_success(*success))
            for success in settle.successes
        )
        for ended in (*plain, *settle.ended):
            if ended.verdict is Verdict.SUCCEEDED:
                self._facts.emit(telemetry.AttemptSucceeded(ended))

    def _acknowledge_some(self, now: float) -> float:
        """Stores the first outcomes of the line; returns how long to wait before the next."""
        count, weight = self._light(self._batch.of(min(ACK_JOBS, len(self._outcomes)), now))
        # In the order of ids, so that two that write many rows take their locks the same way round.
        batch = sorted(map(self._outcomes.__getitem__, range(count)), key=attrgetter("id"))
        again, pause_s = self._acknowledge(batch, now)
        # They leave their place only now: what is not stored must never be missing from `pending`.
        self._outcomes.extend(again)
        self._unstored.offered(again)
        for _ in range(count):
            self._outcomes.popleft()
        self._unstored.left(count, weight)
        return pause_s

    def _light(self, count: int) -> tuple[int, int]:
        """Returns how many of the first *count* are not too heavy together, and what they weigh."""
        if not self._unstored.weight:
            return count, count
        weight = 0
        for place in range(count):
            more = weight_of(self._outcomes[place])
            if place and weight + more > ACK_WEIGHT:
                return place, weight
            weight += more
        return count, weight

    def _acknowledge(self, batch: Sequence[Outcome], now: float) -> tuple[list[Outcome], float]:
        """Stores *batch*; returns what is to be offered again, and how long to wait before that."""
        try:
            answers = self._storage.update_job_state(self._owner, batch)
        except InvalidJob as error:
            return self._acknowledge_refused(batch, error, now)
        except StorageError as error:
            if _may_do_with_fewer(error):
                # It took too long, or one of them is to blame and the storage cannot tell which.
                self._batch.was_too_much(len(batch), now)
            # Perhaps it was applied; to offer it again is safe.
            return list(batch), self.backoff.failed(error, now)
        self.backoff.succeeded(now)
        self._remember(_accepted(batch, answers))
        if answers.count(AckAnswer.APPLIED) == len(batch):
            return [], 0.0
        again: list[Outcome] = []
        for outcome, answer in zip(batch, answers, strict=True):
            if answer is AckAnswer.LOCKED:
                again.append(outcome)
            elif answer not in (AckAnswer.APPLIED, AckAnswer.DUPLICATE):
                self._tell_unless_fits(outcome, answer)
        if len(again) < len(batch):
            return again, 0.0
        return again, jittered(LOCKED_PAUSE_S, 0.5)

    def _acknowledge_refused(
        self, batch: Sequence[Outcome], error: InvalidJob, now: float
    ) -> tuple[list[Outcome], float]:
        """Halves a batch that was refused as a whole, down to the one that is to blame."""
        if len(batch) == 1:
            return self._acknowledge_bare(batch[0], error, now)
        middle = len(batch) // 2
        first, first_pause_s = self._acknowledge(batch[:middle], now)
        second, second_pause_s = self._acknowledge(batch[middle:], now)
        return first + second, max(first_pause_s, second_pause_s)

    def _acknowledge_bare(
        self, outcome: Outcome, error: Exception, now: float
    ) -> tuple[list[Outcome], float]:
        """Stores an outcome that is refused for a value without that value, if that helps.

        As few as possible are left out, and none before the rest is accepted.
        """
        for left_out in _fewest_first(outcome):
            bare = _without(outcome, left_out)
            try:
                (answer,) = self._storage.update_job_state(self._owner, [bare])
            except InvalidJob:
                continue
            except StorageError as other:
                return [outcome], self.backoff.failed(other, now)
            if answer is AckAnswer.LOCKED:
                return [outcome], LOCKED_PAUSE_S
            self.backoff.succeeded(now)
            self._remember(_accepted([bare], [answer]))
            if answer in (AckAnswer.APPLIED, AckAnswer.DUPLICATE, AckAnswer.COMPLETED):
                self._facts.emit(
                    telemetry.OutcomeReduced(outcome.id, outcome.attempt, left_out, str(error))
                )
            if answer not in (AckAnswer.APPLIED, AckAnswer.DUPLICATE):
                self._tell_unless_fits(outcome, answer)
            return [], 0.0
        # Nothing more can be left out: later, perhaps.
        return [outcome], self.backoff.failed(error, now)

    def _tell_unless_fits(self, outcome: Outcome, answer: AckAnswer) -> None:
        """Tells of an outcome that did not count; a job that completed itself may end as well."""
        if answer is not AckAnswer.COMPLETED:
            self._facts.emit(telemetry.OutcomeRefused(outcome.id, outcome.attempt, answer))
        elif outcome.state is not JobState.COMPLETED:
            self._facts.emit(telemetry.OutcomeRefused(outcome.id, outcome.attempt, _OWN_END))

    def _remember(self, batch: Sequence[Outcome]) -> None:
        if not batch:
            return
        weight = self._unstored.weigh(batch)
        self._accepted.append((weight, batch))
        self._accepted_weight += weight
        while self._accepted_weight - self._accepted[0][0] >= ACCEPTED_WEIGHT:
            self._accepted_weight -= self._accepted.popleft()[0]


def _accepted(batch: Sequence[Outcome], answers: Sequence[AckAnswer]) -> Sequence[Outcome]:
    """Returns what may be sent again if a fail-over loses it.

    Of a job that completed in its own transaction that is lost too, and the job has to run again.
    """
    if AckAnswer.COMPLETED not in answers:
        return batch
    return [
        outcome
        for outcome, answer in zip(batch, answers, strict=True)
        if answer is not AckAnswer.COMPLETED
    ]


def _copied(values: deque[T]) -> tuple[T, ...]:
    """Returns what is in a deque that another thread may change meanwhile."""
    while True:
        try:
            return tuple(values)
        except RuntimeError:
            continue


def _may_do_with_fewer(error: StorageError) -> bool:
    """Whether one of several may be to blame, or their number, and the storage cannot tell."""
    if isinstance(error, StorageUnavailable):
        return error.has_answered
    return not isinstance(error, SchemaMismatch)


def _fewest_first(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """Gives what may be left out of an outcome: each value that the job chose, any two, and so on.

    Without `retry_at` the default back-off takes its place.
    """
    chosen = [name for name in _CHOSEN if getattr(outcome, name) is not None]
    for count in range(1, len(chosen) + 1):
        yield from combinations(chosen, count)


def _without(outcome: Outcome, left_out: Sequence[str]) -> Outcome:
    values: dict[str, Any] = dict.fromkeys(left_out)
    if "error" in left_out:
        stand_in = "the storage refused the record of this attempt; this stands in its place"
        values["error"] = AttemptError(attempt=outcome.attempt, error=stand_in).to_json()
    return structs.replace(outcome, **values)
