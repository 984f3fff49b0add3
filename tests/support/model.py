"""A small model of the Storage contract: dicts, one lock, and a clock that a test can set.

It follows `synk.storage.base`, has that and no more, and knows nothing of the SQL. Where the two
differ, the conformance suite fails on one of them.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from support.limiting_model import LimitingModel
from support.model_periodic import ModelSchedule, ModelSchedules
from support.model_unique import ModelUniqueness
from synk.claim import AckAnswer, ClaimedJob, Fence
from synk.errors import ConfigurationError, InvalidJob, KeyReused, UnknownDependency
from synk.failure import AttemptError, Cause
from synk.plain import json_text
from synk.retry import POISON_CRASHES
from synk.row import FOR_EVER, CancelReason, Change, JobRow, JobState, Progress
from synk.setting import Setting, Settings, Standing, owner_of
from synk.status import Beat, ClientRow, Lease, Rescued
from synk.storage import migrate
from synk.storage.base import Hints
from synk.storage.statements import client_id_of
from synk.storage.sweeping import Cleaned, Swept
from synk.tick_key import tick_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from synk.claim import ClaimCursor, Outcome
    from synk.insertion import NewJob
    from synk.setting import SettingChange
    from synk.status import ClientStatus, JobProgress

ERRORS_KEPT: Final = 20
CLIENTS_KEPT: Final = dt.timedelta(days=30)
_TICK: Final = dt.timedelta(microseconds=1)


@dataclass(slots=True)
class Entry:
    """A row, and what the contract does not show of it."""

    row: JobRow
    held: bool = False
    owner: UUID | None = None
    claim_seq: int | None = None
    acked: tuple[UUID, int] | None = None
    limit_key: str | None = None
    scope: str = ""
    """What it is unique by; empty: it is not unique."""
    is_in_scope: bool = False

    def change(self, **fields: Any) -> None:
        self.row = row = replace(self.row, **fields)
        has_started = row.state is JobState.RUNNING and row.unique and row.unique.until == "started"
        if row.state.is_final or has_started:
            self.is_in_scope = False

    def let_go(self, **fields: Any) -> None:
        """Ends the claim."""
        self.owner = self.claim_seq = None
        self.change(**fields)


class ModelAnnouncements:
    """What `ModelStorage.announcements` gives."""

    is_live = True

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._is_awake = False
        self._queues: set[str] = set()
        self._are_requests = False
        self._are_settings = False

    def announce_settings(self) -> None:
        self._are_settings = True
        self._arrived.set()

    def announce(self, queue: str | None) -> None:
        """There is a job in *queue*, or, if that is None, a request."""
        if queue is None:
            self._are_requests = True
        else:
            self._queues.add(queue)
        self._arrived.set()

    def wait(self, timeout_s: float) -> Hints:
        self._arrived.wait(timeout_s)
        if not self._is_awake:
            self._arrived.clear()
        queues, self._queues = self._queues, set()
        are_requests, self._are_requests = self._are_requests, False
        are_settings, self._are_settings = self._are_settings, False
        return Hints(frozenset(queues), are_requests, are_settings)

    def wake(self) -> None:
        self._is_awake = True
        self._arrived.set()


@dataclass(slots=True)
class ModelLease:
    ttl: dt.timedelta
    until: dt.datetime
    beat: int = 0


class ModelHeartbeat:
    """What `ModelStorage.heartbeat` gives."""

    schema_version = migrate.LATEST

    def __init__(self, storage: ModelStorage, owner: UUID) -> None:
        self._storage = storage
        self._owner = owner

    def beat(self) -> Beat | None:
        return self._storage.renew(self._owner)


KEPT = (
    "_entries",
    "_permits",
    "_clients",
    "_leases",
    "_unsettled",
    "_settings",
    "_revision",
    "_in_force",
    "_schedules",
)
"""What a fail-over may lose."""


class ModelStorage(LimitingModel, ModelSchedules, ModelUniqueness):
    """Keeps jobs in this process. `now` is its clock, which goes on a microsecond a call."""

    settled_at_once = 10_000
    """Of those that wait for one job."""

    def __init__(self) -> None:
        super().__init__()
        self.now = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
        self._lock = threading.RLock()
        self._entries: dict[int, Entry] = {}
        self._last_id = 0
        self._completed: set[int] = set()
        """What completed before it was removed."""
        self._unsettled: set[int] = set()
        """What ended with more that waited for it than was settled at once."""
        self._listeners: list[tuple[UUID, ModelAnnouncements]] = []
        self._clients: dict[UUID, ClientRow] = {}
        self._leases: dict[UUID, ModelLease] = {}
        """Of supervisors that are neither dead nor stopped."""
        self._settings: dict[tuple[str, str], Setting] = {}
        self._revision = 0
        self._schedules: dict[str, ModelSchedule] = {}
        self._in_force: dict[UUID, int] = {}
        """Of each supervisor, the revision that it has said to be in force."""

    @property
    def entries(self) -> dict[int, Entry]:
        return self._entries

    @property
    def kept_schedules(self) -> dict[str, ModelSchedule]:
        return self._schedules

    def copied(self) -> dict[str, Any]:
        """What a standby has of it by now."""
        return copy.deepcopy({name: getattr(self, name) for name in KEPT})

    def become(self, kept: dict[str, Any]) -> None:
        """Fails over to what a standby has."""
        for name, value in kept.items():
            setattr(self, name, value)

    def ping(self) -> list[str]:
        return []

    def close(self) -> None:
        pass

    @contextmanager
    def announcements(self, owner: UUID) -> Iterator[ModelAnnouncements]:
        listener = owner, ModelAnnouncements()
        self._listeners.append(listener)
        yield listener[1]
        self._listeners.remove(listener)

    # -- inserting -----------------------------------------------------------------------------

    def insert(self, jobs: Sequence[NewJob], *, connection: object | None = None) -> list[int]:
        if connection is not None:
            raise ConfigurationError("connection", connection, "the model has no connections")
        with self._call():
            new = [job for job in _first_of_each_key(jobs) if not self._has_key_of(job)]
            for job in new:
                self._check_dependencies(job)
            return [self._insert(job) for job in jobs]

    def _has_key_of(self, job: NewJob) -> bool:
        row = self._of_key(job.options.idempotency_key)
        if row is None:
            return False
        if row.kind != job.kind:
            raise KeyReused(row.idempotency_key or "", row.id, "which is of another kind")
        if row.args != json.loads(job.args):
            raise KeyReused(row.idempotency_key or "", row.id, "which has other arguments")
        return True

    def _of_key(self, key: str | None) -> JobRow | None:
        rows = (entry.row for entry in self._entries.values())
        return next((row for row in rows if key is not None and row.idempotency_key == key), None)

    def _check_dependencies(self, job: NewJob) -> None:
        for needed in job.options.depends_on:
            if needed not in self._entries and needed not in self._completed:
                raise UnknownDependency("depends_on", needed, "there is no such job")

    def _insert(self, job: NewJob) -> int:
        if (known := self._of_key(job.options.idempotency_key)) is not None:
            return known.id
        self._last_id += 1
        options = job.options
        needed = [self._entries[id] for id in options.depends_on if id in self._entries]
        row = JobRow(
            id=self._last_id,
            name=job.name,
            kind=job.kind,
            queue=options.queue,
            state=JobState.PENDING,
            priority=options.priority,
            args=json.loads(job.args),
            attempt=0,
            max_attempts=options.max_retries + 1,
            uncounted=0,
            created_at=self.now,
            scheduled_at=options.scheduled_at or self.now,
            attempted_at=None,
            finalized_at=None,
            attempted_by=[],
            depends_on=list(options.depends_on),
            waiting_on=[e.row.id for e in needed if e.row.state is not JobState.COMPLETED],
            errors=[],
            cancel_reason=None,
            cancel_requested_at=None,
            result=None,
            duration=None,
            cpu_time=None,
            system_time=None,
            peak_rss_bytes=None,
            pid=None,
            host=None,
            crashes=0,
            output="",
            progress=None,
            checkpoint=None,
            lost=0,
            idempotency_key=options.idempotency_key,
            tags=list(options.tags or ()),
            meta=json.loads(json_text(options.meta or {})),
            start_before=self._time_of(options.start_before),
            keep=options.keep,
            unique=None,
        )
        key = self._key_of(row.kind, row.args, job.limit)
        entry = self._entries[row.id] = Entry(row, held=options.pending, limit_key=key)
        if any(e.row.state is JobState.CANCELLED for e in needed):
            self._finish(entry, CancelReason.DEPENDENCY)
        self._release_if_ready(entry)
        return row.id

    # -- the supervisor's -----------------------------------------------------------------------

    def get_job_available(
        self,
        queue: str,
        limit: int,
        *,
        kinds: Sequence[str],
        owner: UUID,
        claim_seq: int,
        after: Mapping[int, ClaimCursor] | None = None,
        bytes_max: int | None = None,
    ) -> list[ClaimedJob]:
        cursors = after or {}
        with self._call():
            lease = self._leases.get(owner)
            if lease is None or lease.until <= self.now:
                return []
            due = [
                entry
                for entry in self._entries.values()
                if entry.row.state is JobState.AVAILABLE
                and entry.limit_key is None
                and entry.row.queue == queue
                and entry.row.kind in kinds
                and entry.row.scheduled_at <= self.now
                and not self._is_late(entry)
                and (entry.row.scheduled_at.timestamp(), entry.row.id)
                > cursors.get(int(entry.row.priority), (float("-inf"), 0))
            ]
            due.sort(key=lambda e: (e.row.priority, e.row.scheduled_at, e.row.id))
            claimed: list[ClaimedJob] = []
            weight = 0
            for entry in due[:limit]:
                if bytes_max is not None and weight >= bytes_max:
                    break
                claimed.append(self._claim(entry, owner, claim_seq))
                weight += len(claimed[-1].args) + len(claimed[-1].history or "")
            return claimed

    def _claim(self, entry: Entry, owner: UUID, claim_seq: int) -> ClaimedJob:
        entry.owner, entry.claim_seq = owner, claim_seq
        entry.change(
            state=JobState.RUNNING,
            attempt=entry.row.attempt + 1,
            attempted_at=self.now,
            attempted_by=[*entry.row.attempted_by[-99:], client_id_of(owner)],
            progress=None,
        )
        row = entry.row
        past = {
            "attempted_by": row.attempted_by,
            "depends_on": row.depends_on,
            "errors": [error.to_dict() for error in row.errors],
            "checkpoint": row.checkpoint,
            "tags": row.tags,
            "meta": row.meta,
            "key": row.idempotency_key,
        }
        is_plain = row.attempt == 1 and not (row.depends_on or row.tags or row.meta)
        is_plain = is_plain and tick_of(row.idempotency_key) is None
        history = None if is_plain else json.dumps(past)
        return self._claimed(entry, args=json.dumps(row.args), history=history)

    def _claimed(self, entry: Entry, *, args: str, history: str | None) -> ClaimedJob:
        row = entry.row
        return ClaimedJob(
            id=row.id,
            attempt=row.attempt,
            kind=row.kind,
            priority=int(row.priority),
            scheduled_at=row.scheduled_at.timestamp(),
            max_attempts=row.max_attempts,
            uncounted=row.uncounted,
            name=row.name,
            created_at=row.created_at.timestamp(),
            attempted_at=(row.attempted_at or self.now).timestamp(),
            args=args,
            history=history,
            queue=row.queue,
            claim_seq=entry.claim_seq or 0,
            crashes=row.crashes,
            start_before=None if row.start_before is None else row.start_before.timestamp(),
        )

    def update_job_state(self, owner: UUID, outcomes: Sequence[Outcome]) -> list[AckAnswer]:
        with self._call():
            return [self._acknowledge(owner, outcome) for outcome in outcomes]

    def _acknowledge(self, owner: UUID, outcome: Outcome) -> AckAnswer:
        entry = self._entries.get(outcome.id)
        if entry is None:
            return AckAnswer.GONE
        claim = (entry.row.state, entry.owner, entry.row.attempt, entry.claim_seq)
        if claim != (JobState.RUNNING, owner, outcome.attempt, outcome.claim_seq):
            if entry.acked != (owner, outcome.attempt):
                return AckAnswer.FENCED
            return self._add_account(entry, outcome)
        entry.acked = (owner, outcome.attempt)
        errors = entry.row.errors
        if outcome.error is not None:
            record = {"at": self.now.isoformat(), **json.loads(outcome.error)}
            errors = [*errors, AttemptError.from_dict(record)][-ERRORS_KEPT:]
        entry.let_go(
            errors=errors,
            uncounted=entry.row.uncounted + outcome.uncharged,
            result=None if outcome.result is None else json.loads(outcome.result),
            crashes=entry.row.crashes + outcome.crashed,
            **_account(outcome),
        )
        self._take_progress(entry, outcome.progress, outcome.checkpoint)
        if outcome.retry_at is not None or outcome.retry_in_s is not None:
            wait = dt.timedelta(seconds=outcome.retry_in_s or 0)
            entry.change(scheduled_at=outcome.retry_at or self.now + wait)
        if outcome.snoozes is not None:
            meta = {**entry.row.meta, "snoozes": outcome.snoozes}
            entry.change(meta=meta, snoozes=outcome.snoozes)
        self._end_attempt(entry, outcome.state, outcome.cancel_reason)
        if entry.row.state is JobState.COMPLETED:
            entry.change(checkpoint=None)
        return AckAnswer.APPLIED

    def complete(self, owner: UUID, fence: Fence, result: Any = None) -> bool:
        """What a job does in a transaction of its own; returns whether it still may."""
        with self._call():
            entry = self._entries.get(fence.id)
            if entry is None or (entry.owner, entry.row.attempt, entry.claim_seq) != (
                owner,
                fence.attempt,
                fence.claim_seq,
            ):
                return False
            entry.acked = (owner, fence.attempt)
            entry.let_go(result=result, checkpoint=None, output="", **dict.fromkeys(_MEASURES))
            self._finish(entry, None)
            return True

    def _add_account(self, entry: Entry, outcome: Outcome) -> AckAnswer:
        """Completes the row of a job that completed itself, if nothing has become of it since."""
        row = entry.row
        is_last = row.state is JobState.COMPLETED and row.attempt == outcome.attempt
        if not is_last or row.duration is not None:
            return AckAnswer.DUPLICATE
        account = _account(outcome)
        if outcome.error is not None:
            account["output"] = account["output"] or json.loads(outcome.error).get("output", "")
        entry.change(**account)
        self._take_progress(entry, outcome.progress, None)
        return AckAnswer.COMPLETED

    def _take_progress(self, entry: Entry, progress: str | None, checkpoint: str | None) -> None:
        if progress is not None:
            entry.change(progress=Progress.from_json(progress))
        if checkpoint is not None:
            entry.change(checkpoint=json.loads(checkpoint))

    def save_progress(self, owner: UUID, found: Sequence[JobProgress]) -> int:
        with self._call():
            changed = 0
            for each in found:
                fence = each.fence
                entry = self._entries.get(fence.id)
                if entry is not None and (
                    (entry.owner, entry.row.attempt, entry.claim_seq)
                    == (owner, fence.attempt, fence.claim_seq)
                ):
                    self._take_progress(entry, each.progress, each.checkpoint)
                    changed += 1
            return changed

    # -- supervisors -----------------------------------------------------------------------------

    def register_client(self, status: ClientStatus, ttl: dt.timedelta) -> None:
        with self._call():
            if status.id in self._clients:
                return
            self._clients[status.id] = ClientRow(
                id=status.id,
                host=status.host,
                pid=status.pid,
                version=status.version,
                processes=status.processes,
                queues=list(status.queues),
                started_at=self.now,
                seen_at=self.now,
                stopped_at=None,
                unseen=dt.timedelta(0),
                kinds=None if status.kinds is None else list(status.kinds),
            )
            self._leases[status.id] = ModelLease(ttl, self.now + ttl)

    def report_client(self, status: ClientStatus) -> None:
        with self._call():
            known = self._clients.get(status.id)
            if known is None:
                return
            stopped_at = known.stopped_at or (self.now if status.stopped else None)
            self._clients[status.id] = replace(
                known,
                seen_at=self.now,
                stopped_at=stopped_at,
                stopped=stopped_at is not None,
                slots=list(status.slots),
                errors=list(status.errors),
            )
            if stopped_at is not None:
                self._leases.pop(status.id, None)

    @contextmanager
    def heartbeat(self, owner: UUID) -> Iterator[ModelHeartbeat]:
        yield ModelHeartbeat(self, owner)

    def renew(self, owner: UUID) -> Beat | None:
        with self._call():
            lease = self._leases.get(owner)
            if lease is None:
                return None
            lease.until = self.now + lease.ttl
            lease.beat += 1
            return Beat(migrate.LATEST, self.now.timestamp(), self._revision)

    # -- settings -------------------------------------------------------------------------------

    def settings(self) -> Settings:
        with self._call():
            rows = [self._settings[key] for key in sorted(self._settings)]
            return Settings(self._revision, rows, repr(rows))

    def change_settings(self, changes: Sequence[SettingChange]) -> None:
        with self._call():
            for scope, name in list(self._settings):
                owner = owner_of(scope)
                if owner is not None and owner not in self._leases:
                    del self._settings[scope, name]
            for change in changes:
                key = (change.scope, change.name)
                former = self._settings.pop(key, None)
                if former is not None and former.value == change.value:
                    self._settings[key] = former
                elif change.value is not None:
                    self._settings[key] = Setting(*key, change.value, self.now.timestamp())
            self._revision += 1
            for _, listener in self._listeners:
                listener.announce_settings()

    def report_in_force(self, owner: UUID, settings: Settings) -> bool:
        with self._call():
            if owner not in self._clients or self.settings() != settings:
                return False
            self._in_force[owner] = settings.revision
            return True

    def count_running(self, queue: str | None, owner: UUID | None) -> int:
        with self._call():
            running = [e for e in self._entries.values() if e.row.state is JobState.RUNNING]
            return sum(queue in (None, e.row.queue) and owner in (None, e.owner) for e in running)

    def standings(self) -> list[Standing]:
        with self._call():
            return [
                Standing(
                    id=owner,
                    host=self._clients[owner].host,
                    pid=self._clients[owner].pid,
                    queues=self._clients[owner].queues,
                    revision=self._in_force.get(owner, 0),
                    beat=lease.beat,
                    ttl_s=lease.ttl.total_seconds(),
                    left_s=(lease.until - self.now).total_seconds(),
                )
                for owner, lease in self._leases.items()
            ]

    # -- leases of others -----------------------------------------------------------------------

    def leases(self) -> list[Lease]:
        with self._call():
            return [
                Lease(owner, lease.beat, is_over=lease.until < self.now)
                for owner, lease in self._leases.items()
            ]

    def declare_dead(self, suspects: Sequence[Lease]) -> list[UUID]:
        with self._call():
            dead = [
                suspect.owner
                for suspect in suspects
                if (lease := self._leases.get(suspect.owner)) is not None
                and lease.beat == suspect.beat
                and lease.until < self.now
            ]
            for owner in dead:
                del self._leases[owner]
            return dead

    def dead_owners(self) -> list[UUID]:
        with self._call():
            owners = {entry.owner for entry in self._entries.values() if entry.owner is not None}
            owners |= {owner for owner, _ in self._permits.values()}
            return sorted(owners - self._leases.keys())

    def rescue(self, dead: Sequence[UUID], limit: int) -> list[Rescued]:
        with self._call():
            lost = [entry for entry in self._entries.values() if entry.owner in dead][:limit]
            self._drop_permits(dead)
            return [self._rescue(entry) for entry in lost]

    def _rescue(self, entry: Entry) -> Rescued:
        row = entry.row
        error = AttemptError(
            attempt=row.attempt,
            error="its supervisor was lost",
            cause=Cause.LOST,
            at=self.now,
            host=self._host_of(entry.owner),
            supervisor=row.attempted_by[-1],
        )
        reason = None
        if row.lost + 1 >= POISON_CRASHES:
            reason = CancelReason.POISON
        elif row.attempt - row.uncounted >= row.max_attempts:
            reason = CancelReason.FAILED
        if row.cancel_requested_at is not None:
            reason = CancelReason.REQUESTED
        entry.let_go(errors=[*row.errors, error][-ERRORS_KEPT:], lost=row.lost + 1)
        state = JobState.CANCELLED if reason else JobState.AVAILABLE
        self._end_attempt(entry, state, reason)
        return Rescued(row.id, row.attempt, entry.row.state)

    def running(self, owner: UUID) -> list[ClaimedJob]:
        with self._call():
            return [
                self._claimed(entry, args="{}", history=None)
                for entry in self._entries.values()
                if entry.owner == owner
            ]

    def _host_of(self, owner: UUID | None) -> str | None:
        known = None if owner is None else self._clients.get(owner)
        return None if known is None else known.host

    def forget_clients(self) -> int:
        with self._call():
            old = [id for id, row in self._clients.items() if row.seen_at < self.now - CLIENTS_KEPT]
            for id in old:
                del self._clients[id]
            return len(old)

    def _end_attempt(self, entry: Entry, state: JobState, reason: CancelReason | None) -> None:
        if state is JobState.COMPLETED:
            self._finish(entry, None)
        elif state is JobState.CANCELLED or entry.row.cancel_requested_at is not None:
            self._finish(entry, reason or CancelReason.REQUESTED)
        else:
            entry.change(state=state)

    def cancel_requests(self, owner: UUID) -> list[Fence]:
        with self._call():
            return [
                Fence(e.row.id, e.row.attempt, e.claim_seq or 0)
                for e in self._entries.values()
                if e.owner == owner and e.row.cancel_requested_at is not None
            ]

    def settle(self, limit: int) -> int:
        with self._call():
            taken = sorted(self._unsettled)[:limit]
            self._unsettled.difference_update(taken)
            for job_id in taken:
                entry = self._entries.get(job_id)
                if job_id in self._completed or (entry and entry.row.state is JobState.COMPLETED):
                    self._release_waiting(job_id)
                elif entry is None or entry.row.state is JobState.CANCELLED:
                    self._cancel_waiting([job_id])
            return len(taken)

    def stage(self, limit: int) -> int:
        with self._call():
            due = [e for e in self._in_state(JobState.SCHEDULED) if e.row.scheduled_at <= self.now]
            for entry in sorted(due, key=lambda e: e.row.scheduled_at)[:limit]:
                entry.change(state=JobState.AVAILABLE)
            return min(limit, len(due))

    def _time_of(self, given: dt.datetime | dt.timedelta | None) -> dt.datetime | None:
        return self.now + given if isinstance(given, dt.timedelta) else given

    def _is_past(self, time: dt.datetime | None) -> bool:
        return time is not None and time <= self.now

    def _is_late(self, entry: Entry) -> bool:
        """Whether it may not begin any more."""
        return self._is_past(entry.row.start_before) and entry.row.attempt == entry.row.uncounted

    def sweep(self, limit: int) -> Swept:
        with self._call():
            waiting = (JobState.AVAILABLE, JobState.SCHEDULED, JobState.PENDING)
            entries = list(self._entries.values())
            late = [e for e in entries if e.row.state in waiting and self._is_late(e)]
            old = [
                e.row.id
                for e in entries
                if e.row.keep is not None
                and e.row.keep < FOR_EVER
                and e.row.finalized_at is not None
                and e.row.finalized_at + e.row.keep <= self.now
            ]
            for entry in late[:limit]:
                # Another one may have taken it along.
                if not entry.row.state.is_final:
                    self._finish(entry, CancelReason.EXPIRED)
            for job_id in old[: limit - len(late[:limit])]:
                self._remove(job_id)
            return Swept(min(limit, len(late) + len(old)), len(late), len(old))

    def clean(
        self, state: JobState, retention: dt.timedelta, *, limit: int, after: Any = None
    ) -> Cleaned:
        removed = self.cleaner(state, retention, limit=limit)
        return Cleaned(removed, removed, None)

    def cleaner(self, state: JobState, retention: dt.timedelta, *, limit: int) -> int:
        with self._call():
            ended = [
                (e.row.finalized_at, e.row.id)
                for e in self._in_state(state)
                if e.row.finalized_at and e.row.keep is None
            ]
            old = [id for at, id in sorted(ended) if at < self.now - retention][:limit]
            for job_id in old:
                self._remove(job_id)
            return len(old)

    # -- the caller's ----------------------------------------------------------------------------

    def cancel(self, job_id: int) -> Change:
        with self._call():
            entry = self._entries.get(job_id)
            if entry is None:
                return Change.GONE
            if entry.row.state.is_final:
                return Change.REFUSED
            entry.change(cancel_requested_at=entry.row.cancel_requested_at or self.now)
            self._announce_request(entry.owner)
            if entry.row.state is JobState.RUNNING:
                return Change.REQUESTED
            self._finish(entry, CancelReason.REQUESTED)
            return Change.APPLIED

    def retry(self, job_id: int) -> Change:
        with self._call():
            entry = self._entries.get(job_id)
            if entry is None:
                return Change.GONE
            row = entry.row
            if not row.state.is_final and row.state is not JobState.SCHEDULED:
                return Change.REFUSED
            unmet: list[int] = []
            if row.state.is_final:
                needed = [
                    self._entries.get(id) for id in row.depends_on if id not in self._completed
                ]
                if any(e is None or e.row.state is JobState.CANCELLED for e in needed):
                    return Change.BLOCKED
                unmet = [e.row.id for e in needed if e and e.row.state is not JobState.COMPLETED]
                if self._is_kept_out(entry):
                    return Change.NOT_UNIQUE
            entry.held = False
            entry.change(
                state=JobState.PENDING if unmet else JobState.AVAILABLE,
                scheduled_at=self.now,
                start_before=None if self._is_past(row.start_before) else row.start_before,
                finalized_at=None,
                cancel_reason=None,
                cancel_requested_at=None,
                waiting_on=unmet,
                result=None,
                duration=None,
                cpu_time=None,
                system_time=None,
                peak_rss_bytes=None,
                pid=None,
                crashes=0,
                lost=0,
                output="",
                progress=None,
                max_attempts=max(row.max_attempts, row.attempt - row.uncounted + 1),
            )
            entry.is_in_scope = entry.is_in_scope or (row.state.is_final and bool(entry.scope))
            if not unmet:
                self._announce_job(entry.row)
            return Change.APPLIED

    def delete(self, job_id: int) -> Change:
        with self._call():
            entry = self._entries.get(job_id)
            if entry is None:
                return Change.GONE
            if entry.row.state is JobState.RUNNING:
                return Change.REFUSED
            self._remove(job_id)
            return Change.APPLIED

    def _remove(self, job_id: int) -> None:
        if self._entries.pop(job_id).row.state is JobState.COMPLETED:
            self._completed.add(job_id)
        else:
            self._cancel_waiting([job_id])

    def ready(self, job_id: int) -> Change:
        with self._call():
            entry = self._entries.get(job_id)
            if entry is None:
                return Change.GONE
            if entry.row.state is not JobState.PENDING or not entry.held:
                return Change.REFUSED
            entry.held = False
            self._release_if_ready(entry)
            return Change.APPLIED

    # -- looking ---------------------------------------------------------------------------------

    def get(self, job_ids: Sequence[int]) -> list[JobRow]:
        with self._call():
            wanted = sorted(set(job_ids) & self._entries.keys())
            return [self._seen(self._entries[job_id]) for job_id in wanted]

    def _seen(self, entry: Entry) -> JobRow:
        last = entry.owner or (None if entry.acked is None else entry.acked[0])
        scope = entry.row.unique
        if scope is not None:
            holder = self._in_scope(entry.scope)
            scope = replace(scope, job_id=None if holder is None else holder.row.id)
        return replace(entry.row, host=self._host_of(last), unique=scope)

    # -- the rules -------------------------------------------------------------------------------

    @contextmanager
    def _call(self) -> Iterator[None]:
        with self._lock:
            self.now += _TICK
            yield

    def _announce_job(self, row: JobRow) -> None:
        for _, announcements in self._listeners:
            announcements.announce(row.queue)

    def _announce_request(self, owner: UUID | None) -> None:
        for listener, announcements in self._listeners:
            if listener == owner:
                announcements.announce(None)

    def _in_state(self, state: JobState) -> Iterable[Entry]:
        return (entry for entry in self._entries.values() if entry.row.state is state)

    def _release_if_ready(self, entry: Entry) -> None:
        row = entry.row
        if row.state is JobState.PENDING and not entry.held and not row.waiting_on:
            is_due = row.scheduled_at <= self.now
            entry.change(state=JobState.AVAILABLE if is_due else JobState.SCHEDULED)
            self._announce_job(entry.row)

    def _finish(self, entry: Entry, reason: CancelReason | None) -> None:
        state = JobState.CANCELLED if reason else JobState.COMPLETED
        entry.held = False
        entry.change(state=state, finalized_at=self.now, cancel_reason=reason, waiting_on=[])
        if reason:
            self._cancel_waiting([entry.row.id])
            return
        self._release_waiting(entry.row.id)

    def _release_waiting(self, ended: int) -> None:
        for waiting in self._first_waiting_for(ended):
            waiting.change(waiting_on=[id for id in waiting.row.waiting_on if id != ended])
            self._release_if_ready(waiting)

    def _cancel_waiting(self, ended: list[int]) -> None:
        while ended:
            for entry in self._first_waiting_for(ended.pop()):
                entry.held = False
                entry.change(
                    state=JobState.CANCELLED,
                    finalized_at=self.now,
                    cancel_reason=CancelReason.DEPENDENCY,
                    waiting_on=[],
                )
                ended.append(entry.row.id)

    def _first_waiting_for(self, job_id: int) -> list[Entry]:
        """Those that are settled at once; if there are more, `settle` goes on."""
        waiting = [e for e in self._in_state(JobState.PENDING) if job_id in e.row.waiting_on]
        if len(waiting) > self.settled_at_once:
            self._unsettled.add(job_id)
        return waiting[: self.settled_at_once]


_MEASURES: Final = ("duration", "cpu_time", "system_time", "peak_rss_bytes", "pid")


def _account(outcome: Outcome) -> dict[str, Any]:
    """What an attempt took and said."""
    return {
        "duration": dt.timedelta(microseconds=outcome.duration_us),
        "cpu_time": dt.timedelta(microseconds=outcome.cpu_us),
        "system_time": _measured(outcome, dt.timedelta(microseconds=outcome.system_us)),
        "peak_rss_bytes": _measured(outcome, outcome.peak_rss_bytes),
        "pid": outcome.pid,
        "output": outcome.output or "",
    }


def _measured(outcome: Outcome, value: Any) -> Any:
    """What was measured, or None of an attempt that was too short to ask for it."""
    return value if outcome.peak_rss_bytes else None


def _first_of_each_key(jobs: Sequence[NewJob]) -> list[NewJob]:
    """Returns the jobs that would be stored, if no key were taken: all without one, too."""
    first: dict[str, NewJob] = {}
    stored: list[NewJob] = []
    for job in jobs:
        key = job.options.idempotency_key
        other = job if key is None else first.setdefault(key, job)
        if other is job:
            stored.append(job)
        elif (other.kind, other.args) != (job.kind, job.args):
            raise InvalidJob("idempotency_key", key, "is that of two different jobs of one insert")
    return stored
