"""The model of the storage, watched: every call is checked, every change of a row is kept."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from simulation.schedule import Schedule
from simulation.ticks import Ticks
from support.checking import History, Image, image_of
from support.model import Entry, ModelStorage
from synk.claim import AckAnswer, ClaimedJob, Outcome
from synk.core.ownership import fence_of
from synk.limit import KeyedClaim
from synk.row import CancelReason, Change, JobRow, JobState
from synk.storage.statements import client_id_of

EPOCH = dt.datetime(2030, 1, 1, tzinfo=dt.timezone.utc)
ON_REQUEST = {"retry", "delete", "cleaner"}


@dataclass(frozen=True)
class Standby:
    kept: dict[str, Any]
    effects: set[tuple[int, int]]
    beat_at: dict[UUID, tuple[float, dt.datetime]]
    anew: dict[int, int]


class Ledger:
    """Runs calls on the storage at the storage's own time."""

    def __init__(self, schedule: Schedule, storage: ModelStorage, ttl_s: float) -> None:
        self.storage = storage
        self._schedule = schedule
        self._ttl = dt.timedelta(seconds=ttl_s)
        self.stepped_s = 0.0
        """How far the storage's clock was set."""
        self.history = History()
        self.claims: set[tuple[int, int, str | None, int | None]] = set()
        """All that there ever were, also those that a fail-over lost: (job, attempt, ...)."""
        self.effects: set[tuple[int, int]] = set()
        """What jobs wrote in the transaction that completed them: (job, attempt)."""
        self.keys: dict[int, str] = {}
        """Under which key each job was claimed."""
        self.undone = 0
        """How many of them a fail-over lost."""
        self.lost: set[int] = set()
        """Jobs whose insert a fail-over lost."""
        self.counts: Counter[str] = Counter()
        self.ticks = Ticks()
        self._rows: dict[int, tuple[Any, Image]] = {}
        self._beat_at: dict[UUID, tuple[float, dt.datetime]] = {}
        """When each renewed its lease last, really and by the storage's clock."""
        self._off: set[int] = set()
        self._failed_over_at = float("-inf")
        self._anew: dict[int, int] = {}
        """After which attempt a job that was over has begun anew last."""
        self.on_settings: Callable[[], None] = lambda: None
        """Called when settings may be others."""

    def now(self) -> dt.datetime:
        return EPOCH + dt.timedelta(seconds=self._schedule.now + self.stepped_s)

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        self.storage.now = self.now()
        if method == "update_job_state":
            answer = self._acknowledge(*args)
        else:
            answer = getattr(self.storage, method)(*args, **options)
            self._note(method, args, options, answer)
        self._look(on_request=method in ON_REQUEST)
        if method == "change_settings":
            self.on_settings()
        return answer

    def complete(self, owner: UUID, job: ClaimedJob) -> bool:
        """A job completes in a transaction of its own, on a connection of its own."""
        done = self.call("complete", owner, fence_of(job))
        if done:
            self.effects.add((job.id, job.attempt))
        return done

    def images(self) -> list[Image]:
        return [image for _, image in self._rows.values()]

    def completed_rows(self) -> list[JobRow]:
        rows = [entry.row for entry in self._entries.values()]
        return [row for row in rows if row.state is JobState.COMPLETED]

    # -- fail-over --------------------------------------------------------------------------------

    def copied(self) -> Standby:
        """Returns what a standby has by now."""
        return Standby(
            self.storage.copied(), set(self.effects), dict(self._beat_at), dict(self._anew)
        )

    def fail_over(self, standby: Standby) -> None:
        """From now on the standby is the storage: what was committed since the copy is lost."""
        before = set(self._entries)
        self.storage.become(standby.kept)
        self.undone += len(self.effects - standby.effects)
        self.effects = standby.effects
        self._beat_at = standby.beat_at
        self._anew = standby.anew
        self._failed_over_at = self._schedule.now
        self.lost |= before - set(self._entries)
        # A new beginning: numbers of attempts may come again.
        self.history = History()
        self._off.clear()
        self.ticks.forget()
        self._rows = {id: (entry.row, _image(entry)) for id, entry in self._entries.items()}
        self.on_settings()

    @property
    def _entries(self) -> dict[int, Entry]:
        return self.storage.entries

    # -- what is checked --------------------------------------------------------------------------

    def _acknowledge(self, owner: UUID, outcomes: list[Outcome]) -> list[AckAnswer]:
        answers: list[AckAnswer] = []
        for outcome in outcomes:
            entry = self._entries.get(outcome.id)
            held = entry is not None and (
                (entry.owner, entry.row.attempt, entry.claim_seq)
                == (owner, outcome.attempt, outcome.claim_seq)
            )
            (answer,) = self.storage.update_job_state(owner, [outcome])
            assert (answer is AckAnswer.APPLIED) == held, f"I7: {answer} was said to {outcome}"
            answers.append(answer)
            self.counts[answer.value] += 1
            if answer is AckAnswer.APPLIED:
                self.counts["snoozes"] += outcome.snoozes is not None
                self.counts["given up"] += outcome.cancel_reason is CancelReason.HANDLER
            self._look()
        return answers

    def _note(
        self, method: str, args: tuple[Any, ...], options: dict[str, Any], answer: Any
    ) -> None:
        now = self._schedule.now
        if method == "get_job_available":
            self._note_claim(options["owner"], answer)
        elif method == "register_client":
            self._beat_at.setdefault(args[0].id, (now, self.now()))
        elif method == "renew" and answer is not None:
            self._beat_at[args[0]] = (now, self.now())
        elif method == "claim_keyed" and answer is not None:
            self._note_keyed(options["owner"], answer)
        elif method == "declare_dead":
            for owner in answer or ():
                self.counts["declared dead"] += 1
                age_s = now - self._beat_at[owner][0]
                assert age_s >= self._shortest_s(now), f"I20: it renewed its lease {age_s} s ago"
        elif method in ("rescue", "settle"):
            name = "rescued" if method == "rescue" else "settled later"
            self.counts[name] += len(answer or ()) if method == "rescue" else answer or 0
        elif method == "cancel" and answer is Change.APPLIED:
            self._off.add(args[0])
        elif method == "retry":
            self._note_retry(args[0], answer)

    def _note_claim(self, owner: UUID, jobs: Sequence[ClaimedJob]) -> None:
        left = self._beat_at[owner][1] + self._ttl - self.now() if jobs else self._ttl
        assert left > dt.timedelta(0), "I20: it had no lease"

    def _note_keyed(self, owner: UUID, found: KeyedClaim) -> None:
        self._note_claim(owner, found.jobs)
        self.keys.update({job.id: key for job, key in zip(found.jobs, found.keys, strict=True)})
        self.counts["keyed"] += len(found.jobs)
        self.counts["permits"] += len(found.permits)

    def _note_retry(self, job_id: int, answer: Change | None) -> None:
        self._off.discard(job_id)
        self.counts["kept out"] += answer is Change.NOT_UNIQUE
        if answer is Change.APPLIED and self._rows[job_id][1].state.is_final:
            self._anew[job_id] = self._rows[job_id][1].attempt

    def _shortest_s(self, now: float) -> float:
        """Returns for how long a lease holds at the least, by a clock that goes a little fast.

        A fail-over can take renewals back, and the next one has the number of a lost one: then it
        is what an owner grants itself, less what was lost.
        """
        ttl_s = self._ttl.total_seconds()
        is_doubtful = now - self._failed_over_at < 2 * ttl_s
        return ttl_s * (0.8 if is_doubtful else 0.97)

    def _look(self, *, on_request: bool = False) -> None:
        self.ticks.look(self.storage.kept_schedules, self._entries)
        for job_id, entry in self._entries.items():
            row, before = self._rows.get(job_id, (None, None))
            if entry.row is row:
                continue
            after = _image(entry)
            self._rows[job_id] = (entry.row, after)
            self.history.take(before, after, on_request=on_request)
            if after.state is JobState.RUNNING:
                self.claims.add((job_id, after.attempt, after.owner, after.claim_seq))
        assert self.history.broken == [], f"broken: {[str(each) for each in self.history.broken]}"
        for job_id in self._off:
            assert self._entries[job_id].row.state is JobState.CANCELLED, "I22: it was cancelled"
        inside = Counter(e.scope for e in self._entries.values() if self._is_in_scope(e))
        assert max(inside.values(), default=0) <= 1, f"two in one unique scope: {inside}"

    def _is_in_scope(self, entry: Entry) -> bool:
        """By what has become of its row, whatever the storage says."""
        row = entry.row
        if row.unique is None or row.state.is_final:
            return False
        if row.unique.until == "finished":
            return True
        return row.state is not JobState.RUNNING and row.attempt == self._anew.get(row.id, 0)


def _image(entry: Entry) -> Image:
    owner = None if entry.owner is None else client_id_of(entry.owner)
    return image_of(entry.row, owner, entry.claim_seq)
