"""Every question to the database as a value: its text, its parameters, how its answer is read.

The sync and the async storage run these, and know nothing more about them. No I/O here.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

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
from synk.storage.made import made

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import LiteralString
    from uuid import UUID

    from synk.claim import ClaimCursor, Outcome
    from synk.insertion import NewJob
    from synk.status import ClientStatus, JobProgress
    from synk.storage.reading import Rows

JOBS_SEARCHED: Final = 10_000
"""How many jobs a listing looks at for those that match: where they lie apart, for 100 ms."""

_BEGINNING: Final[ClaimCursor] = (float("-inf"), 0)
_ANY_NUMBER: Final = 2**62
_ALL_VERSIONS: Final = 999

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Statement(Generic[T]):
    """One statement. `read` makes the answer of its rows and of the number of rows it changed."""

    text: LiteralString
    parameters: dict[str, object]
    read: Callable[[Any, int], T]
    by_name: bool = False
    """Whether it reads rows as dicts. As tuples it reads one column, or many rows, whose order of
    columns is tested."""
    binary: bool = False
    """Whether the rows are asked for in binary: faster to read where there are many, and times and
    fractions are the same whatever the session's DateStyle or extra_float_digits."""


class Statements:
    """The statements for one schema."""

    def __init__(self, schema: str = sql.DEFAULT_SCHEMA) -> None:
        self.schema = sql.check_schema(schema)

    def _text(self, name: str) -> LiteralString:
        return sql.statement(name, self.schema)

    def schema_version(self) -> Statement[int]:
        return Statement(
            sql.migration_version(self.schema), {}, lambda rows, _: int(rows[0][0] or 0)
        )

    def hidden(self, *, from_readers: bool) -> Statement[str]:
        """Says what row-level security may hide from the session's role; empty if nothing."""
        tables = ["job"] if from_readers else made(self.schema, _ALL_VERSIONS).tables
        parameters: dict[str, object] = {
            "tables": tables,
            "commands": "{r}" if from_readers else "{r,w,d}",
            "triggers": not from_readers,
        }
        read = reading.hidden_from_readers if from_readers else reading.hidden
        return Statement(self._text("hidden"), parameters, read, by_name=True)

    def insert(self, job: NewJob) -> Statement[list[int]]:
        return Statement(self._text("insert"), sending.insert_parameters(job), reading.first_column)

    def insert_many(self, jobs: Sequence[NewJob]) -> Statement[list[int]]:
        if any(job.options.idempotency_key is not None for job in jobs):
            sent, places = sending.once_a_key(jobs)
            parameters = sending.insert_many_parameters(sent)
            parameters["each_idempotency_key"] = [job.options.idempotency_key for job in sent]
            return Statement(
                self._text("insert_many_once"),
                parameters,
                lambda rows, _: [rows[place][0] for place in places],
            )
        return Statement(
            self._text("insert_many"),
            sending.insert_many_parameters(jobs),
            reading.first_column,
            binary=True,
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
        cursors = [(after or {}).get(priority, _BEGINNING) for priority in Priority]

        def read(rows: Rows, _: int) -> list[ClaimedJob]:
            mine: tuple[Any, ...] = (queue, claim_seq)
            jobs = [ClaimedJob(*(row + mine)) for row in rows]
            jobs.sort(key=_urgency)
            return jobs

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
        return Statement(self._text("claim"), parameters, read, binary=True)

    def ack(self, owner: UUID, outcomes: Sequence[Outcome]) -> Statement[int]:
        """Applies *outcomes*; the answer is how many of them were applied."""
        parameters = sending.ack_parameters(owner, outcomes)
        for name, get in sending.RARE_COLUMNS.items():
            parameters[name] = [get(outcome) for outcome in outcomes]
        return Statement(self._text("ack"), parameters, reading.changed)

    def check_values(self, outcomes: Sequence[Outcome]) -> Statement[None]:
        """Has the server read what the jobs of *outcomes* chose, and nothing else."""
        names = (
            *("results", "errors", "progress", "checkpoints", "outputs"),
            *("retry_at", "retry_in_s"),
        )
        parameters: dict[str, object] = {
            name: [sending.RARE_COLUMNS[name](outcome) for outcome in outcomes] for name in names
        }
        return Statement(self._text("check_values"), parameters, lambda _rows, _: None)

    def ack_plain(self, owner: UUID, outcomes: Sequence[Outcome]) -> Statement[int] | None:
        """The same for successes that left nothing but their measures; None if there are others."""
        if not all(map(sending.is_plain, outcomes)):
            return None
        return Statement(
            self._text("ack_plain"), sending.ack_parameters(owner, outcomes), reading.changed
        )

    def account(self, owner: UUID, outcomes: Sequence[Outcome]) -> Statement[int]:
        """Adds what is known of jobs that completed themselves; the answer is to how many."""
        parameters = sending.ack_parameters(owner, outcomes)
        for name in ("outputs", "errors", "progress"):
            parameters[name] = [sending.RARE_COLUMNS[name](outcome) for outcome in outcomes]
        return Statement(self._text("account"), parameters, reading.changed)

    def ack_answers(self, owner: UUID, outcomes: Sequence[Outcome]) -> Statement[list[AckAnswer]]:
        parameters = sending.fence_parameters(outcomes)
        parameters["owner"] = owner
        return Statement(
            self._text("ack_answers"),
            parameters,
            lambda rows, _: [AckAnswer(answer) for (answer,) in rows],
        )

    def cancel(self, job_id: int) -> Statement[Change]:
        return self._change("cancel", job_id)

    def retry(self, job_id: int) -> Statement[Change]:
        return self._change("retry", job_id)

    def delete(self, job_id: int) -> Statement[Change]:
        return self._change("delete", job_id)

    def ready(self, job_id: int) -> Statement[Change]:
        return self._change("ready", job_id)

    def _change(self, name: str, job_id: int) -> Statement[Change]:
        return Statement(self._text(name), {"id": job_id}, lambda rows, _: Change(rows[0][0]))

    def cleaner(self, state: JobState, retention: dt.timedelta, limit: int) -> Statement[int]:
        parameters: dict[str, object] = {
            "state": state.value,
            "retention": retention,
            "limit": limit,
        }
        return Statement(self._text("cleaner"), parameters, reading.changed)

    def stage(self, limit: int) -> Statement[int]:
        return Statement(self._text("stage"), {"limit": limit}, reading.changed)

    def settle(self, limit: int) -> Statement[int]:
        return Statement(self._text("settle"), {"limit": limit}, reading.changed)

    def get(self, job_ids: Sequence[int]) -> Statement[list[JobRow]]:
        return Statement(
            self._text("get"),
            {"ids": list(job_ids)},
            reading.job_rows,
            by_name=True,
            binary=True,
        )

    def jobs(
        self,
        *,
        state: JobState | None,
        queue: str | None,
        kind: str | None,
        limit: int,
        reason: CancelReason | None,
        since: dt.datetime | dt.timedelta | None,
    ) -> Statement[JobList]:
        if reason is not None and state is None:
            state = JobState.CANCELLED
        is_age = isinstance(since, dt.timedelta)
        form = "jobs" if since is None else "jobs_since"
        if state is not None:
            form = "jobs_ended" if state.is_final or reason is not None else "jobs_unfinished"
        parameters: dict[str, object] = {
            "state": None if state is None else state.value,
            "queue": queue,
            "kind": kind,
            "limit": limit,
            "since": None if is_age else since,
            "age": since if is_age else None,
            "reason": None if reason is None else reason.value,
            "searched": JOBS_SEARCHED,
        }
        return Statement(
            self._text(form),
            parameters,
            lambda rows, _: reading.job_list(rows, JOBS_SEARCHED),
            by_name=True,
            binary=True,
        )

    def counts(self, queue: str | None) -> Statement[dict[JobState, int]]:
        return Statement(
            self._text("counts"),
            {"queue": queue},
            lambda rows, _: {JobState(row["state"]): row["count"] for row in rows},
            by_name=True,
        )

    def summary(self, queue: str | None) -> Statement[list[KindSummary]]:
        return Statement(
            self._text("summary"),
            {"queue": queue},
            reading.kind_summaries,
            by_name=True,
        )

    def cancel_requests(self, owner: UUID) -> Statement[list[Fence]]:
        return Statement(
            self._text("cancel_requests"),
            {"owner": owner},
            lambda rows, _: [Fence(**row) for row in rows],
            by_name=True,
        )

    def save_progress(self, owner: UUID, found: Sequence[JobProgress]) -> Statement[int]:
        parameters = sending.fence_parameters([each.fence for each in found])
        parameters["owner"] = owner
        parameters["progress"] = [each.progress for each in found]
        parameters["checkpoints"] = [each.checkpoint for each in found]
        return Statement(self._text("save_progress"), parameters, reading.changed)

    def register_client(self, status: ClientStatus, ttl: dt.timedelta) -> Statement[None]:
        parameters: dict[str, object] = {
            "id": status.id,
            "host": status.host,
            "pid": status.pid,
            "version": status.version,
            "processes": status.processes,
            "queues": list(status.queues),
            "kinds": None if status.kinds is None else list(status.kinds),
            "ttl": ttl,
        }
        return Statement(self._text("register_client"), parameters, lambda _rows, _: None)

    def unknown_kinds(self, queues: Sequence[str] | None) -> Statement[list[UnknownKind]]:
        parameters: dict[str, object] = {
            "queues": None if queues is None else list(queues),
            "limit": KINDS_LOOKED_FOR,
            "kinds_max": KINDS_TOLD,
        }
        return Statement(
            self._text("unknown_kinds"),
            parameters,
            lambda rows, _: [UnknownKind(**row) for row in rows],
            by_name=True,
        )

    def heartbeat(self, owner: UUID) -> Statement[Beat | None]:
        return Statement(
            self._text("heartbeat"),
            {"owner": owner},
            lambda rows, _: Beat(**rows[0]) if rows else None,
            by_name=True,
            binary=True,
        )

    def leases(self) -> Statement[list[Lease]]:
        return Statement(
            self._text("leases"), {}, lambda rows, _: [Lease(**row) for row in rows], by_name=True
        )

    def declare_dead(self, suspects: Sequence[Lease]) -> Statement[list[UUID]]:
        parameters: dict[str, object] = {
            "ids": [lease.owner for lease in suspects],
            "beats": [lease.beat for lease in suspects],
        }
        return Statement(self._text("declare_dead"), parameters, reading.owners)

    def dead_owners(self) -> Statement[list[UUID]]:
        return Statement(self._text("dead_owners"), {}, reading.owners)

    def rescue(self, dead: Sequence[UUID], limit: int) -> Statement[list[Rescued]]:
        parameters: dict[str, object] = {
            "dead": list(dead),
            "limit": limit,
            "lost_max": POISON_CRASHES,
        }
        return Statement(
            self._text("rescue"),
            parameters,
            lambda rows, _: [
                Rescued(row["job_id"], row["attempt"], JobState(row["state"])) for row in rows
            ],
            by_name=True,
        )

    def running(self, owner: UUID) -> Statement[list[ClaimedJob]]:
        return Statement(
            self._text("running"),
            {"owner": owner},
            lambda rows, _: [ClaimedJob(**row) for row in rows],
            by_name=True,
            binary=True,
        )

    def report_client(self, status: ClientStatus) -> Statement[None]:
        parameters: dict[str, object] = {
            "id": status.id,
            "slots": msgspec.json.encode(status.slots).decode(),
            "errors": msgspec.json.encode(status.errors).decode(),
            "stopped": status.stopped,
        }
        return Statement(self._text("report_client"), parameters, lambda _rows, _: None)

    def clients(self, within: dt.timedelta) -> Statement[list[ClientRow]]:
        return Statement(
            self._text("clients"),
            {"within": within},
            reading.client_rows,
            by_name=True,
            binary=True,
        )

    def forget_clients(self) -> Statement[int]:
        return Statement(self._text("forget_clients"), {}, reading.changed)

    def ask_stack(self, job_id: int) -> Statement[int | None]:
        return Statement(
            self._text("ask_stack"), {"id": job_id}, lambda rows, _: rows[0][0] if rows else None
        )

    def queue_depths(self) -> Statement[QueueDepths]:
        return Statement(
            self._text("queue_depths"), {"limit": DEPTH_COUNTED}, reading.queue_depths, by_name=True
        )

    def stack_questions(self, owner: UUID) -> Statement[list[tuple[int, int]]]:
        return Statement(
            self._text("stack_questions"),
            {"owner": owner},
            lambda rows, _: [(row["question"], row["job_id"]) for row in rows],
            by_name=True,
        )

    def answer_stack(self, question: int, answer: str) -> Statement[None]:
        return Statement(
            self._text("answer_stack"),
            {"id": question, "answer": answer},
            lambda _rows, _: None,
        )

    def stack_answer(self, question: int) -> Statement[str | None]:
        return Statement(
            self._text("stack_answer"),
            {"id": question},
            lambda rows, _: rows[0][0] if rows else None,
        )


_urgency = attrgetter("priority", "scheduled_at", "id")
