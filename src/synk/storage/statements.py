"""Every question to the database as a value: its text, its parameters, how its answer is read.

The sync and the async storage run these, and know nothing more about them. No I/O here.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import msgspec

from synk.claim import AckAnswer, ClaimedJob, Fence
from synk.retry import POISON_CRASHES
from synk.row import CancelReason, Change, JobList, JobRow, JobState, KindSummary, Priority
from synk.status import (
    DEPTH_COUNTED,
    KINDS_LOOKED_FOR,
    KINDS_TOLD,
    Beat,
    ClientRow,
    Lease,
    QueueDepths,
    Rescued,
    UnknownKind,
    client_id_of,
)
from synk.storage import reading, sending, sql
from synk.storage.made import made, named
from synk.storage.statement import Statement
from synk.storage.statements_bulk import BulkStatements
from synk.storage.statements_limiting import LimitingStatements
from synk.storage.statements_periodic import PeriodicStatements
from synk.storage.statements_settings import SettingsStatements
from synk.storage.statements_sweeping import SweepingStatements
from synk.storage.statements_unique import UniqueStatements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from synk.claim import ClaimCursor, Outcome
    from synk.insertion import NewJob
    from synk.status import ClientStatus, JobProgress

JOBS_SEARCHED: Final = 10_000
"""How many jobs a listing looks at for those that match: where they lie apart, for 100 ms."""

_BEGINNING: Final[ClaimCursor] = (float("-inf"), 0)
_ANY_NUMBER: Final = 2**62
_ALL_VERSIONS: Final = 999


class Statements(
    BulkStatements,
    LimitingStatements,
    PeriodicStatements,
    SettingsStatements,
    SweepingStatements,
    UniqueStatements,
):
    """The statements for one schema: one for each file in ``sql/``, hence so many methods."""

    def schema_version(self) -> Statement[int]:
        """Answers the number of the newest migration that was applied, 0 if there is none."""
        return Statement(
            sql.migration_version(self.schema), {}, lambda rows, _: int(rows[0][0] or 0)
        )

    def hidden(self, *, from_readers: bool) -> Statement[str]:
        """Says what row-level security may hide from the session's role; empty if nothing."""
        return self._asking(
            "hidden",
            reading.hidden_from_readers if from_readers else reading.hidden,
            tables=["job"] if from_readers else named(made(self.schema, _ALL_VERSIONS), "TABLE"),
            commands="{r}" if from_readers else "{r,w,d}",
            triggers=not from_readers,
        )

    # -- what becomes of jobs ---------------------------------------------------------------------

    def insert(self, job: NewJob) -> Statement[list[int]]:
        """Inserts one job."""
        if job.options.has_extras or job.limit is not None:
            return self.insert_many([job])
        return Statement(self._text("insert"), sending.insert_parameters(job), reading.first_column)

    def insert_many(self, jobs: Sequence[NewJob]) -> Statement[list[int]]:
        """Inserts *jobs*, each key once; answers their ids in order."""
        all_options = {id(job.options): job.options for job in jobs}.values()
        if any(each.has_extras for each in all_options) or any(job.limit for job in jobs):
            return self._insert_each_key("insert_full", sending.insert_full_parameters, jobs)
        if any(each.idempotency_key is not None for each in all_options):
            return self._insert_each_key("insert_many_once", sending.insert_once_parameters, jobs)
        return Statement(
            self._text("insert_many"),
            sending.insert_many_parameters(jobs),
            reading.first_column,
            binary=True,
        )

    def _insert_each_key(
        self,
        name: str,
        parameters: Callable[[Sequence[NewJob]], dict[str, object]],
        jobs: Sequence[NewJob],
    ) -> Statement[list[int]]:
        """Inserts the first job of each key."""
        sent, places = sending.once_a_key(jobs)
        return Statement(
            self._text(name), parameters(sent), lambda rows, _: [rows[place][0] for place in places]
        )

    def claim(
        self,
        queue: str,
        limit: int,
        *,
        kinds: Sequence[str],
        owner: UUID,
        claim_seq: int,
        after: Mapping[int, ClaimCursor] | None = None,
        bytes_max: int | None = None,
    ) -> Statement[list[ClaimedJob]]:
        """See `Storage.get_job_available`."""
        cursors = [(after or {}).get(priority, _BEGINNING) for priority in Priority]
        parameters: dict[str, object] = {
            "queue": queue,
            "limit": limit,
            "kinds": list(kinds),
            "owner": owner,
            "claim_seq": claim_seq,
            "client_id": client_id_of(owner),
            "cursors_at": [at for at, _ in cursors],
            "cursors_id": [job_id for _, job_id in cursors],
            "bytes_max": _ANY_NUMBER if bytes_max is None else bytes_max,
        }
        read = reading.claimed_jobs(queue, claim_seq)
        return Statement(self._text("claim"), parameters, read, binary=True)

    def running(self, owner: UUID) -> Statement[list[ClaimedJob]]:
        """See `Storage.running`."""
        return self._asking("running", reading.records(ClaimedJob), binary=True, owner=owner)

    def cancel_requests(self, owner: UUID) -> Statement[list[Fence]]:
        """See `Storage.cancel_requests`."""
        return self._asking("cancel_requests", reading.records(Fence), owner=owner)

    def save_progress(self, owner: UUID, found: Sequence[JobProgress]) -> Statement[int]:
        """See `Storage.save_progress`."""
        return self._changing(
            "save_progress",
            **sending.fence_parameters([each.fence for each in found]),
            owner=owner,
            progress=[each.progress for each in found],
            checkpoints=[each.checkpoint for each in found],
        )

    def ack_plain(self, owner: UUID, outcomes: Sequence[Outcome]) -> Statement[int] | None:
        """Applies successes that left nothing but their measures; None if there are others."""
        if not sending.are_plain(outcomes):
            return None
        return Statement(
            self._text("ack_plain"), sending.ack_parameters(owner, outcomes), reading.changed
        )

    def ack(self, owner: UUID, outcomes: Sequence[Outcome]) -> Statement[int]:
        """Applies *outcomes*; the answer is how many of them were applied."""
        return self._changing(
            "ack", **sending.ack_parameters(owner, outcomes), **sending.rare_parameters(outcomes)
        )

    def ack_answers(self, owner: UUID, outcomes: Sequence[Outcome]) -> Statement[list[AckAnswer]]:
        """Answers what became of each of *outcomes*, as far as it has."""
        return Statement(
            self._text("ack_answers"),
            {**sending.fence_parameters(outcomes), "owner": owner},
            lambda rows, _: [AckAnswer(answer) for (answer,) in rows],
        )

    def account(self, owner: UUID, outcomes: Sequence[Outcome]) -> Statement[int]:
        """Adds what is known of jobs that completed themselves; the answer is to how many."""
        return self._changing(
            "account",
            **sending.ack_parameters(owner, outcomes),
            **sending.rare_parameters(outcomes, ("outputs", "errors", "progress")),
        )

    def check_values(self, outcomes: Sequence[Outcome]) -> Statement[None]:
        """Has the server read what the jobs of *outcomes* chose, and nothing else."""
        chosen = ("results", "errors", "progress", "checkpoints", "outputs")
        return self._telling(
            "check_values",
            **sending.rare_parameters(outcomes, (*chosen, "retry_at", "retry_in_s")),
        )

    def cancel(self, job_id: int) -> Statement[Change]:
        """See `Storage.cancel`."""
        return self._change("cancel", job_id)

    def retry(self, job_id: int) -> Statement[Change]:
        """See `Storage.retry`."""
        return self._change("retry", job_id)

    def delete(self, job_id: int) -> Statement[Change]:
        """See `Storage.delete`."""
        return self._change("delete", job_id)

    def ready(self, job_id: int) -> Statement[Change]:
        """See `Storage.ready`."""
        return self._change("ready", job_id)

    def _change(self, name: str, job_id: int) -> Statement[Change]:
        return Statement(self._text(name), {"id": job_id}, lambda rows, _: Change(rows[0][0]))

    def stage(self, limit: int) -> Statement[int]:
        """See `Storage.stage`."""
        return self._changing("stage", limit=limit)

    def settle(self, limit: int) -> Statement[int]:
        """See `Storage.settle`."""
        return self._changing("settle", limit=limit)

    # -- supervisors and their leases -------------------------------------------------------------

    def register_client(self, status: ClientStatus, ttl: dt.timedelta) -> Statement[None]:
        """See `Storage.register_client`."""
        return self._telling(
            "register_client",
            id=status.id,
            host=status.host,
            pid=status.pid,
            version=status.version,
            processes=status.processes,
            queues=list(status.queues),
            kinds=None if status.kinds is None else list(status.kinds),
            ttl=ttl,
        )

    def report_client(self, status: ClientStatus) -> Statement[None]:
        """See `Storage.report_client`."""
        return self._telling(
            "report_client",
            id=status.id,
            slots=msgspec.json.encode(status.slots).decode(),
            errors=msgspec.json.encode(status.errors).decode(),
            stopped=status.stopped,
        )

    def forget_clients(self) -> Statement[int]:
        """See `Storage.forget_clients`."""
        return self._changing("forget_clients")

    def heartbeat(self, owner: UUID) -> Statement[Beat | None]:
        """See `Heartbeat.beat`."""
        return self._asking(
            "heartbeat",
            lambda rows, _: Beat(**rows[0]) if rows else None,
            binary=True,
            owner=owner,
        )

    def leases(self) -> Statement[list[Lease]]:
        """See `Storage.leases`."""
        return self._asking("leases", reading.records(Lease))

    def declare_dead(self, suspects: Sequence[Lease]) -> Statement[list[UUID]]:
        """See `Storage.declare_dead`."""
        beats: dict[str, object] = {"beats": [lease.beat for lease in suspects]}
        beats["ids"] = [lease.owner for lease in suspects]
        return Statement(self._text("declare_dead"), beats, reading.first_column)

    def dead_owners(self) -> Statement[list[UUID]]:
        """See `Storage.dead_owners`."""
        return Statement(self._text("dead_owners"), {}, reading.first_column)

    def rescue(self, dead: Sequence[UUID], limit: int) -> Statement[list[Rescued]]:
        """See `Storage.rescue`."""
        return self._asking(
            "rescue", reading.rescued, dead=list(dead), limit=limit, lost_max=POISON_CRASHES
        )

    # -- what can be seen -------------------------------------------------------------------------

    def get(self, job_ids: Sequence[int]) -> Statement[list[JobRow]]:
        """See `Storage.get`."""
        return self._asking("get", reading.job_rows, binary=True, ids=list(job_ids))

    def jobs(
        self,
        *,
        state: JobState | None = None,
        queue: str | None = None,
        kind: str | None = None,
        limit: int = 50,
        reason: CancelReason | None = None,
        since: dt.datetime | dt.timedelta | None = None,
        tags: Sequence[str] = (),
    ) -> Statement[JobList]:
        """See `Inspection.jobs`."""
        if reason is not None and state is None:
            state = JobState.CANCELLED
        is_age = isinstance(since, dt.timedelta)
        form = "jobs" if since is None else "jobs_since"
        if state is not None:
            form = "jobs_ended" if state.is_final or reason is not None else "jobs_unfinished"
        return self._asking(
            form,
            lambda rows, _: reading.job_list(rows, JOBS_SEARCHED),
            binary=True,
            state=state and state.value,
            queue=queue,
            kind=kind,
            tags=list(tags) or None,
            limit=limit,
            since=None if is_age else since,
            age=since if is_age else None,
            reason=reason and reason.value,
            searched=JOBS_SEARCHED,
        )

    def counts(self, queue: str | None = None) -> Statement[dict[JobState, int]]:
        """See `Inspection.counts`."""
        return self._asking("counts", reading.counts, queue=queue)

    def summary(self, queue: str | None = None) -> Statement[list[KindSummary]]:
        """See `Inspection.summary`."""
        return self._asking("summary", reading.kind_summaries, queue=queue)

    def queue_depths(self) -> Statement[QueueDepths]:
        """See `Inspection.queue_depths`."""
        return self._asking("queue_depths", reading.queue_depths, limit=DEPTH_COUNTED)

    def unknown_kinds(self, queues: Sequence[str] | None = None) -> Statement[list[UnknownKind]]:
        """See `Inspection.unknown_kinds`."""
        return self._asking(
            "unknown_kinds",
            reading.records(UnknownKind),
            queues=None if queues is None else list(queues),
            limit=KINDS_LOOKED_FOR,
            kinds_max=KINDS_TOLD,
        )

    def clients(self, within: dt.timedelta) -> Statement[list[ClientRow]]:
        """See `Inspection.clients`."""
        return self._asking("clients", reading.client_rows, binary=True, within=within)

    def ask_stack(self, job_id: int) -> Statement[int | None]:
        """See `Inspection.ask_stack`."""
        return Statement(self._text("ask_stack"), {"id": job_id}, reading.first_value)

    def stack_questions(self, owner: UUID) -> Statement[list[tuple[int, int]]]:
        """See `Inspection.stack_questions`."""
        return self._asking(
            "stack_questions",
            lambda rows, _: [(row["question"], row["job_id"]) for row in rows],
            owner=owner,
        )

    def answer_stack(self, question: int, answer: str) -> Statement[None]:
        """See `Inspection.answer_stack`."""
        return self._telling("answer_stack", id=question, answer=answer)

    def stack_answer(self, question: int) -> Statement[str | None]:
        """See `Inspection.stack_answer`."""
        return Statement(self._text("stack_answer"), {"id": question}, reading.first_value)
